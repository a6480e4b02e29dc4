"""What every event store says of its commits, and how it takes in those of another store."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest

from shop.eventsourcing import Commit, EventIdReusedError, EventStore, Query, ReplicationError
from tests.notebook import AnyEvent, counted, note, noted, stream
from tests.stores import NewStorage, Storage

Copied = list[tuple[Commit, list[AnyEvent]]]


@pytest.fixture
def source(new_storage: NewStorage) -> EventStore:
    """A store with commits of one, several and no events."""
    store = new_storage().open()
    one, two = note(), note()
    store.append([])
    store.append(stream(one, 3), digest=b"made by the caller")
    store.append([noted(two, 1), noted(one, 4)])
    store.append([])
    store.append([])
    store.append([counted(note(), 1)])
    store.append([])
    return store


def copied(store: EventStore, after: int = 0) -> Copied:
    """All commits with their events; those that have none and found the same head, by their ids."""
    commits = sorted(
        store.commits(after), key=lambda commit: (commit.last, commit.first, commit.id)
    )
    return [
        (commit, list(store.read(Query(after=commit.first - 1, to=commit.last))))
        for commit in commits
    ]


def test_commits_are_told_in_order(store: EventStore) -> None:
    assert list(store.commits()) == []
    ref = note()
    made = [
        store.append([noted(ref, 1)]),
        store.append([], digest=b"nothing"),
        store.append([noted(ref, 2), noted(note(), 1)]),
        store.append([noted(ref, 3)]),
    ]
    known = [msgspec.structs.replace(commit, replayed=True) for commit in made]
    assert list(store.commits()) == known
    assert list(store.commits(1)) == known[1:]
    assert list(store.commits(2)) == list(store.commits(3)) == known[3:]
    assert list(store.commits(4)) == []
    assert known == [store.find_commit(commit.id) for commit in made]


def test_commits_without_events_are_told_after_what_they_found(store: EventStore) -> None:
    first = store.append([])
    store.append([noted(note(), 1)])
    second, third = store.append([], commit_id=UUID(int=0)), store.append([])
    assert next(store.commits()).id == first.id
    assert {commit.id for commit in store.commits(1)} == {second.id, third.id}


def test_many_commits_are_told_page_by_page(store: EventStore) -> None:
    ref = note()
    made = [store.append([noted(ref, version)]).id for version in range(1, 2502)]
    assert [commit.id for commit in store.commits()] == made


def test_commits_of_another_store_become_the_same(source: EventStore, store: EventStore) -> None:
    store.replicate(copied(source))
    assert copied(store) == copied(source)
    assert store.info().kinds == source.info().kinds


def test_what_is_there_already_is_passed_over(source: EventStore, store: EventStore) -> None:
    everything = copied(source)
    store.replicate(everything[:3])
    store.replicate(everything[:3])
    store.replicate(everything[2:])
    assert copied(store) == everything


def test_commits_may_be_large_together(new_storage: NewStorage, store: EventStore) -> None:
    source = new_storage().open()
    for _ in range(4):
        source.append([noted(note(), 1, "x" * 9_000_000)])
    store.replicate(copied(source))
    assert list(store.commits()) == list(source.commits())


def test_replicating_nothing_does_nothing(store: EventStore) -> None:
    store.replicate([])
    assert store.head() == 0


def test_a_replica_goes_on_as_any_store(source: EventStore, store: EventStore) -> None:
    everything = copied(source)
    store.replicate(everything)
    commit, events = everything[2]
    assert store.append(events, commit_id=commit.id).replayed
    ref = events[1].aggregate
    assert store.append([noted(ref, 5)]).first == 7


def test_a_replica_survives_the_process(source: EventStore, durable: Storage) -> None:
    everything = copied(source)
    with durable.open() as store:
        store.replicate(everything)
    assert copied(durable.open()) == everything


def test_a_store_with_other_events_is_refused(source: EventStore, store: EventStore) -> None:
    store.append([noted(note(), 1)])
    before = copied(store)
    with pytest.raises(ReplicationError, match="does not fit"):
        store.replicate(copied(source))
    assert copied(store)[: len(before)] == before
    assert store.head() == 1


def test_a_gap_is_refused(source: EventStore, store: EventStore) -> None:
    with pytest.raises(ReplicationError, match="here it would begin at position 1"):
        store.replicate(copied(source)[5:])
    with pytest.raises(ReplicationError, match="is at version 0, not at the expected 3"):
        store.replicate(copied(source)[2:])
    assert store.head() == 0


def test_the_same_commit_id_with_other_content_is_refused(
    source: EventStore, store: EventStore
) -> None:
    everything = copied(source)
    commit, events = everything[1]
    store.append([])
    store.append(events[:1], commit_id=commit.id)
    with pytest.raises(ReplicationError, match="with other content"):
        store.replicate(everything[1:])


def test_the_same_event_in_another_commit_is_refused(source: EventStore, store: EventStore) -> None:
    everything = copied(source)
    _, events = everything[1]
    foreign = msgspec.structs.replace(events[0], aggregate=note())
    store.append([foreign])
    commit = Commit(uuid4(), 2, 4, b"digest")
    with pytest.raises(EventIdReusedError):
        store.replicate([(commit, events)])
    assert store.head() == 1


def test_the_same_event_in_two_commits_is_refused(store: EventStore) -> None:
    event = noted(note(), 1)
    again = msgspec.structs.replace(event, aggregate=note())
    commits = [Commit(uuid4(), position, position, b"digest") for position in (1, 2)]
    with pytest.raises(EventIdReusedError):
        store.replicate([(commits[0], [event]), (commits[1], [again])])


@pytest.mark.parametrize(
    ("version", "id", "told"),
    [(3, None, "not at the expected 2"), (2, UUID(int=1), "two events .* have the same id")],
)
def test_a_commit_that_contradicts_itself_is_refused(
    store: EventStore, version: int, id: UUID | None, told: str
) -> None:
    ref = note()
    events = [noted(ref, 1, id=UUID(int=1)), noted(ref, version, id=id)]
    with pytest.raises(ReplicationError, match=told):
        store.replicate([(Commit(uuid4(), 1, 2, b"digest"), events)])
    assert store.head() == 0


def test_a_commit_that_claims_more_than_its_events_is_refused(store: EventStore) -> None:
    commit = Commit(uuid4(), 1, 2, b"digest")
    with pytest.raises(ReplicationError):
        store.replicate([(commit, [noted(note(), 1)])])
    assert store.head() == 0
