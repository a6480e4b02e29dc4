"""What every snapshot store does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from shop.eventsourcing import AggregateRef, Snapshot, SnapshotStore
from tests.stores import NewStorage, Storage


@pytest.fixture
def store(new_storage: NewStorage) -> SnapshotStore:
    """An empty snapshot store, of each kind in turn."""
    return new_storage().backend().snapshots


def snapshot(
    version: int = 1,
    *,
    name: str = "bank.account",
    id: UUID | None = None,
    state: bytes = b"a state",
) -> Snapshot:
    return Snapshot(AggregateRef(name, id or uuid4()), version, uuid4(), "a shape", state)


def test_there_is_none_at_first(store: SnapshotStore) -> None:
    assert store.load(AggregateRef("bank.account", uuid4())) is None


@pytest.mark.parametrize(
    "state", [b"", b"\0\xff\x80", b"long" * 1_000_000], ids=["empty", "binary", "long"]
)
def test_what_was_saved_is_loaded(store: SnapshotStore, state: bytes) -> None:
    saved = snapshot(2**40, state=state)

    store.save(saved)

    assert store.load(saved.aggregate) == saved


def test_a_later_one_takes_the_place_of_the_earlier(store: SnapshotStore) -> None:
    id = uuid4()
    store.save(snapshot(100, id=id))
    later = snapshot(200, id=id, state=b"another state")

    store.save(later)

    assert store.load(later.aggregate) == later


def test_one_of_a_shorter_stream_takes_its_place_too(store: SnapshotStore) -> None:
    """A store of events that was restored from a backup has shorter streams."""
    id = uuid4()
    store.save(snapshot(200, id=id))
    restored = snapshot(100, id=id)

    store.save(restored)

    assert store.load(restored.aggregate) == restored


def test_aggregates_of_one_id_and_several_kinds_are_kept_apart(store: SnapshotStore) -> None:
    id = uuid4()
    account, limit = snapshot(1, id=id), snapshot(2, id=id, name="bank.limit")

    store.save(account)
    store.save(limit)

    assert store.load(account.aggregate) == account
    assert store.load(limit.aggregate) == limit


def test_another_connection_finds_what_was_saved(durable: Storage) -> None:
    saved = snapshot()
    one = durable.backend()
    one.snapshots.save(saved)
    one.close()

    assert durable.backend().snapshots.load(saved.aggregate) == saved


def test_any_thread_may_save_and_load(store: SnapshotStore) -> None:
    id = uuid4()
    own = [snapshot(version) for version in range(1, 41)]
    shared = [snapshot(version, id=id) for version in range(1, 41)]

    def save(some: tuple[Snapshot, Snapshot]) -> Snapshot | None:
        for one in some:
            store.save(one)
        return store.load(some[0].aggregate)

    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(save, zip(own, shared, strict=True)))

    assert loaded == own
    assert store.load(shared[0].aggregate) in shared
