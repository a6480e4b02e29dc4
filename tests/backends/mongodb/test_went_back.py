"""A database on MongoDB that went back, or lost its indexes, under programs that go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from uuid import uuid4

import pytest

from shop.backends.mongodb import MongoEventStore
from shop.backends.mongodb.schema import BY_COMMIT, BY_VERSION
from shop.bootstrap import open_event_store
from shop.eventsourcing import (
    CheckpointMovedError,
    ConcurrencyError,
    EventIdReusedError,
    EventStore,
    Filter,
    Query,
    Snapshot,
    StoreUnavailableError,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel
from shop.stores import open_backend
from tests.backends.mongodb.raw import Raw, named
from tests.notebook import counted, note, noted, positions, registry, stream


def cut(raw: Raw, url: str) -> None:
    """As when an older state is restored, or what was read was not on disk when the server died."""
    raw[named(url, "commits")].delete_many({"_id": {"$gt": 1}})


def drop(raw: Raw, url: str) -> None:
    raw.drop_collection(named(url, "commits"))


DROPPED = ("store", "commits", "checkpoints", "snapshots")


def drop_all(raw: Raw, url: str) -> None:
    """As when the server is started on another directory."""
    for name in DROPPED:
        raw.drop_collection(named(url, name))


@pytest.mark.parametrize(("loss", "left"), [(cut, 1), (drop, 0), (drop_all, 0)])
def test_a_log_that_lost_commits_goes_on_without_a_gap_and_keeps_its_promises(
    url: str,
    raw: Raw,
    monkeypatch: pytest.MonkeyPatch,
    loss: Callable[[Raw, str], None],
    left: int,
) -> None:
    monkeypatch.setattr("shop.backends.mongodb.log._LOOK", 0)
    with (
        open_event_store(url, registry()) as store,
        open_event_store(url, registry()) as other,
    ):
        ref = note()
        store.append([noted(ref, 1)])
        store.append([counted(ref, 2)])
        other.append([noted(ref, 3)])
        with pytest.raises(ConcurrencyError):
            store.append([noted(ref, 3)])
        loss(raw, url)
        event, commit_id = counted(ref, left + 1), uuid4()
        assert store.append([event], commit_id=commit_id).first == left + 1
        assert other.append([event], commit_id=commit_id).replayed
        with pytest.raises(EventIdReusedError):
            store.append([noted(note(), 1, id=event.id)])
        assert store.append([noted(note(), 1)]).first == left + 2
        whole = list(range(1, left + 3))
        assert positions(store.read()) == whole
        assert positions(store.read(Query(aggregates=[ref.name]))) == whole
        assert store.info() == other.info()


def test_kinds_that_were_read_and_then_lost_are_told_again(url: str, raw: Raw) -> None:
    with (
        open_event_store(url, registry()) as store,
        open_event_store(url, registry()) as other,
    ):
        ref = note()
        other.append([noted(ref, 1)])
        assert store.info().kinds
        raw[named(url, "commits")].delete_many({})
        store.append([noted(ref, 1)])
        assert positions(store.read(Query(aggregates=[ref.name]))) == [1]


@pytest.mark.parametrize("index", [BY_COMMIT, BY_VERSION])
def test_an_index_that_is_missing_is_made_when_a_store_is_opened(
    url: str, raw: Raw, index: str
) -> None:
    """As after a restore without indexes."""
    with open_event_store(url, registry()) as store:
        store.append([noted(note(), 1)])
    raw[named(url, "commits")].drop_index(index)
    with open_event_store(url, registry()) as store:
        assert store.head() == 1
    assert index in raw[named(url, "commits")].index_information()


@pytest.mark.parametrize(
    "use", [lambda store: store.head(), lambda store: store.append([noted(note(), 1)])]
)
def test_what_was_read_and_then_lost_is_told_and_not_gone_on_behind(
    url: str, raw: Raw, use: Callable[[EventStore], object]
) -> None:
    """As when the server dies before it has written what it showed."""
    with (
        open_event_store(url, registry()) as store,
        open_event_store(url, registry()) as reader,
    ):
        store.append(stream(note(), 3))
        assert isinstance(reader, MongoEventStore)
        confirm = reader._durability.confirm

        def lose_and_confirm(last: int, commit_id: object, **always: bool) -> None:
            raw[named(url, "commits")].delete_many({})
            confirm(last, str(commit_id), **always)

        reader._durability.confirm = lose_and_confirm  # type: ignore[method-assign]  # the fault
        with pytest.raises(StoreUnavailableError, match="before it had written"):
            use(reader)
        reader._durability.confirm = confirm  # type: ignore[method-assign]  # as it was
        assert reader.append([noted(note(), 1)]).first == 1


def test_read_models_that_were_dropped_begin_anew(url: str, raw: Raw) -> None:
    parcels = Collection("post_parcel", ("owner",))
    ada = StoredModel(parcels.name, "1", 1, 1, '{"owner":"Ada"}')
    begun, moved = (Checkpoint("post", 1, position, "", uuid4()) for position in (1, 2))
    with closing(open_backend(url)) as backend:
        models = backend.models
        models.prepare([parcels])
        models.commit(None, begun, [ada])
        for name in (*DROPPED, "model_post_parcel"):
            raw.drop_collection(named(url, name))
        backend.snapshots.save(Snapshot(note(), 1, uuid4(), "", b"state"))
        with pytest.raises(CheckpointMovedError):
            models.commit(begun, moved)
        assert models.checkpoint("post") is None
        models.commit(None, begun, [ada])
        assert models.find("post", parcels, Filter(equal={"owner": "Ada"})).value == [ada]
    with closing(open_backend(url)) as opened_later:
        assert opened_later.models.checkpoint("post") == begun
