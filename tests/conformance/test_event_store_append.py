"""Appending: all or nothing, version by version, once."""

from __future__ import annotations

from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.eventsourcing import (
    AggregateRef,
    Commit,
    CommitReusedError,
    ConcurrencyError,
    Event,
    EventData,
    EventIdReusedError,
    EventStore,
    Metadata,
    NewCommit,
    PayloadError,
    Query,
    Registry,
    StoreClosedError,
    UnregisteredError,
    event,
    new_id,
)
from tests.notebook import Counted, Noted, counted, note, noted, stored, stream
from tests.stores import NewStorage


def test_a_new_store_is_empty(store: EventStore) -> None:
    assert store.head() == 0
    assert list(store.read()) == []


def test_positions_run_from_1_without_a_gap(store: EventStore) -> None:
    first, second = note(), note()
    commits = [
        store.append(stream(first, 3)),
        store.append(stream(second, 1)),
        store.append(stream(first, 2, after=3)),
    ]
    assert [(commit.first, commit.last, commit.size) for commit in commits] == [
        (1, 3, 3),
        (4, 4, 1),
        (5, 6, 2),
    ]
    assert [e.position for e in store.read()] == [1, 2, 3, 4, 5, 6]
    assert store.head() == 6


def test_an_append_reaches_over_several_aggregates_in_the_order_given(store: EventStore) -> None:
    first, second = note(), note()
    events = [noted(first, 1), counted(second, 1), noted(first, 2), noted(second, 2)]
    store.append(events)
    assert list(store.read()) == stored(events)


def test_an_append_may_reach_over_very_many_aggregates(store: EventStore) -> None:
    events = [noted(note(), 1) for _ in range(20_000)]
    guards = {note(): 0 for _ in range(20_000)}
    assert store.append(events, guards=guards).last == 20_000
    with pytest.raises(ConcurrencyError):
        store.append(events[-1:])
    assert list(store.read(Query(after=19_999))) == stored(events[-1:], 20_000)


@pytest.mark.parametrize("version", [1, 2, 4, 9])
def test_a_version_that_does_not_follow_is_refused(store: EventStore, version: int) -> None:
    ref = note()
    store.append(stream(ref, 2))
    with pytest.raises(ConcurrencyError) as refused:
        store.append([noted(ref, version)])
    assert refused.value.aggregate == ref
    assert refused.value.expected == version - 1
    assert refused.value.actual == 2


@pytest.mark.parametrize("versions", [[2], [1, 3], [1, 1], [2, 1]])
def test_a_new_aggregates_versions_run_from_1(store: EventStore, versions: list[int]) -> None:
    ref = note()
    with pytest.raises(ConcurrencyError) as refused:
        store.append([noted(ref, version) for version in versions])
    assert refused.value.aggregate == ref
    assert store.head() == 0


def test_a_refused_append_leaves_no_trace(store: EventStore) -> None:
    fresh, stale, commit_id = note(), note(), uuid4()
    store.append([noted(stale, 1)])
    unstored = [noted(fresh, 1), counted(fresh, 2), noted(stale, 1)]
    with pytest.raises(ConcurrencyError):
        store.append(unstored, commit_id=commit_id)
    assert store.head() == 1
    assert store.find_commit(commit_id) is None
    assert list(store.read(Query(refs=[fresh]))) == []
    assert ("notebook.counted", 1) not in store.info().kinds
    # Nothing of it stands in the way of the same events, put right.
    commit = store.append([*unstored[:2], noted(stale, 2)], commit_id=commit_id)
    assert (commit.first, commit.last, commit.replayed) == (2, 4, False)


def test_a_guard_that_holds_lets_the_append_through(store: EventStore) -> None:
    read, written, absent = note(), note(), note()
    store.append(stream(read, 2))
    store.append([noted(written, 1)], guards={read: 2, absent: 0, written: 0})
    assert store.head() == 3


@pytest.mark.parametrize("guard", [0, 1, 3])
def test_a_guard_that_does_not_hold_stops_the_append(store: EventStore, guard: int) -> None:
    read, written = note(), note()
    store.append(stream(read, 2))
    with pytest.raises(ConcurrencyError) as refused:
        store.append([noted(written, 1)], guards={read: guard})
    assert refused.value.aggregate == read
    assert (refused.value.expected, refused.value.actual) == (guard, 2)
    assert store.head() == 2


def test_a_guard_may_not_contradict_the_events(store: EventStore) -> None:
    ref = note()
    with pytest.raises(ConcurrencyError):
        store.append([noted(ref, 1)], guards={ref: 1})
    assert store.head() == 0


@pytest.mark.parametrize("version", [-1, 2**63, 2**70])
def test_a_version_that_none_can_be_is_refused(store: EventStore, version: int) -> None:
    written = noted(note(), 1)
    for append in (
        partial(store.append, [written], guards={note(): version}),
        partial(store.append, [msgspec.structs.replace(written, version=version)]),
    ):
        with pytest.raises(ValueError, match=f"between 0 and 9223372036854775807, not {version}"):
            append()
    assert store.append([written]).first == 1


def test_guards_alone_are_checked_as_well(store: EventStore) -> None:
    ref = note()
    store.append([noted(ref, 1)])
    store.append([], guards={ref: 1})
    with pytest.raises(ConcurrencyError):
        store.append([], guards={ref: 0})


def test_aggregates_of_one_id_but_other_names_have_versions_of_their_own(
    store: EventStore,
) -> None:
    ref = note()
    twin = type(ref)("notebook.twin", ref.id)
    store.append([noted(ref, 1), noted(ref, 2)])
    store.append([noted(twin, 1)])
    assert [e.version for e in store.read(Query(refs=[twin]))] == [1]


def test_a_commit_is_found_by_its_id(store: EventStore) -> None:
    commit_id = uuid4()
    store.append(stream(note(), 1))
    commit = store.append(stream(note(), 2), commit_id=commit_id)
    assert commit == Commit(commit_id, 2, 3, commit.digest)
    assert store.find_commit(commit_id) == Commit(commit_id, 2, 3, commit.digest, replayed=True)
    assert store.find_commit(uuid4()) is None


def test_an_append_without_commit_id_gets_one(store: EventStore) -> None:
    commit = store.append(stream(note(), 1))
    assert store.find_commit(commit.id) is not None


def test_the_same_append_again_is_told_the_first_outcome(store: EventStore) -> None:
    events, commit_id = stream(note(), 2), uuid4()
    first = store.append(events, commit_id=commit_id)
    store.append(stream(note(), 1))
    again = store.append(events, commit_id=commit_id)
    assert again == Commit(commit_id, 1, 2, first.digest, replayed=True)
    assert not first.replayed
    assert store.head() == 3


def test_equal_events_with_new_ids_and_times_are_a_repeat(store: EventStore) -> None:
    ref, commit_id = note(), uuid4()
    store.append([noted(ref, 1, "hello")], commit_id=commit_id)
    again = store.append([noted(ref, 1, "hello")], commit_id=commit_id)
    assert again.replayed
    assert store.head() == 1


def test_a_repeat_is_recognised_although_its_guards_no_longer_hold(store: EventStore) -> None:
    ref, read, commit_id = note(), note(), uuid4()
    events = [noted(ref, 1)]
    store.append(events, commit_id=commit_id, guards={read: 0})
    store.append([noted(read, 1), noted(ref, 2)])
    assert store.append(events, commit_id=commit_id, guards={read: 0}).replayed


def test_a_commit_id_with_other_content_is_refused(store: EventStore) -> None:
    ref, other, commit_id = note(), note(), uuid4()
    store.append([noted(ref, 1, "hello")], commit_id=commit_id)
    for events in (
        [noted(ref, 1, "good-bye")],
        [noted(ref, 2, "hello")],
        [noted(other, 1, "hello")],
        [counted(ref, 1)],
        [noted(ref, 1, "hello"), noted(ref, 2, "hello")],
        [],
    ):
        with pytest.raises(CommitReusedError) as refused:
            store.append(events, commit_id=commit_id)
        assert refused.value.commit_id == commit_id
    assert store.head() == 1


def test_a_given_digest_decides_what_is_a_repeat(store: EventStore) -> None:
    ref, commit_id = note(), uuid4()
    first = store.append([noted(ref, 1, "hello")], commit_id=commit_id, digest=b"asked twice")
    assert first.digest == b"asked twice"
    again = store.append([noted(ref, 1, "other")], commit_id=commit_id, digest=b"asked twice")
    assert again.replayed
    with pytest.raises(CommitReusedError):
        store.append([noted(ref, 1, "hello")], commit_id=commit_id, digest=b"something else")


def test_an_empty_append_only_remembers_its_commit_id(store: EventStore) -> None:
    commit_id = uuid4()
    store.append(stream(note(), 2))
    empty = store.append([], commit_id=commit_id)
    assert (empty.first, empty.last, empty.size, empty.replayed) == (3, 2, 0, False)
    store.append(stream(note(), 1))
    again = store.append([], commit_id=commit_id)
    assert (again.first, again.last, again.replayed) == (3, 2, True)
    assert store.head() == 3


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_id_of_a_stored_event_is_refused(store: EventStore, place: int) -> None:
    old, fresh = noted(note(), 1), note()
    store.append([old])
    events = [noted(fresh, version, id=new_id()) for version in (1, 2, 3)]
    events[place] = noted(fresh, place + 1, id=old.id)
    with pytest.raises(EventIdReusedError) as refused:
        store.append(events)
    assert refused.value.event_id == old.id
    assert list(store.read()) == stored([old])


def test_two_events_of_one_append_may_not_share_an_id(store: EventStore) -> None:
    ref, id = note(), new_id()
    with pytest.raises(ValueError, match="same id"):
        store.append([noted(ref, 1, id=id), noted(ref, 2, id=id)])
    assert store.head() == 0


@event("notebook.unregistered")
class Unregistered(EventData, frozen=True):
    pass


@pytest.mark.parametrize(
    "data",
    [
        Unregistered(),
        Noted(7),  # type: ignore[arg-type]  # what the checker would not see, the store must
        Counted("many"),  # type: ignore[arg-type]  # as above
        Noted("half a pair: \ud83d"),
    ],
    ids=["unregistered", "number for text", "text for number", "text that is no Unicode"],
)
def test_what_could_not_be_read_again_is_refused(store: EventStore, data: EventData) -> None:
    ref = note()
    with pytest.raises(PayloadError):
        store.append([noted(ref, 1), Event.new(ref, version=2, data=data)])
    assert store.head() == 0


_ID = cast("Any", str(uuid4()))  # what the checker would not see, the store must
_NUMBER = cast("Any", 5)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": _ID},
        {"aggregate": AggregateRef("notebook.note", _ID)},
        {"aggregate": AggregateRef(_NUMBER, uuid4())},
        {"version": cast("Any", True)},
        {"metadata": Metadata(command_id=_ID)},
        {"metadata": Metadata(correlation_id=_ID)},
        {"metadata": Metadata(causation_id=_ID)},
        {"metadata": Metadata(actor=_NUMBER)},
    ],
    ids=lambda changed: str(*changed),
)
def test_an_envelope_that_could_not_be_read_again_is_refused(
    store: EventStore, changed: dict[str, Any]
) -> None:
    odd = msgspec.structs.replace(noted(note(), 1), **changed)
    with pytest.raises(TypeError, match=r"must be of type (UUID|str|int), not "):
        store.append([noted(note(), 1), odd])
    assert store.head() == 0


def test_a_commit_id_is_a_uuid(store: EventStore) -> None:
    with pytest.raises(TypeError, match=f"commit_id must be of type UUID, not '{_ID}': UUID"):
        store.append([noted(note(), 1)], commit_id=_ID)
    assert store.head() == 0


@event("notebook.keyed")
class Keyed(EventData, frozen=True):
    numbers: dict[int, dict[float, int]]
    ids: dict[UUID, int]


def test_keys_that_are_no_text_come_back_as_they_were(new_storage: NewStorage) -> None:
    store = new_storage().open(Registry([Keyed]))
    keyed = Keyed({7: {1.5: 2}, -7: {}}, {uuid4(): 1})
    store.append([Event.new(note(), version=1, data=keyed)])
    assert [event.data for event in store.read()] == [keyed]


def test_of_several_appends_each_has_its_own_outcome(store: EventStore) -> None:
    ref, other, id = note(), note(), uuid4()
    outcomes = store.append_each(
        [
            NewCommit(stream(ref, 2), id),
            NewCommit([noted(ref, 3)], guards={other: 0}),
            NewCommit([noted(ref, 3)]),
            NewCommit([Event.new(ref, version=4, data=Unregistered())]),
            NewCommit(stream(ref, 2), id),
            NewCommit(stream(other, 1)),
            NewCommit([], guards={other: 0}),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [
        Commit,
        Commit,
        ConcurrencyError,
        UnregisteredError,
        Commit,
        Commit,
        ConcurrencyError,
    ]
    commits = [outcome for outcome in outcomes if isinstance(outcome, Commit)]
    assert [(c.first, c.last, c.replayed) for c in commits] == [
        (1, 2, False),
        (3, 3, False),
        (1, 2, True),
        (4, 4, False),
    ]
    assert [(e.aggregate, e.version) for e in store.read()] == [
        (ref, 1),
        (ref, 2),
        (ref, 3),
        (other, 1),
    ]


def test_very_many_appends_at_once(store: EventStore) -> None:
    refs = [note() for _ in range(1000)]
    outcomes = store.append_each([NewCommit(stream(ref, 2)) for ref in refs])
    assert [o.first for o in outcomes if isinstance(o, Commit)] == list(range(1, 2001, 2))
    assert store.append_each([]) == []
    assert [event.aggregate for event in store.read()] == [ref for ref in refs for _ in range(2)]


def test_appends_may_be_large_together(store: EventStore) -> None:
    large = "x" * 9_000_000
    outcomes = store.append_each([NewCommit([noted(note(), 1, large)]) for _ in range(4)])
    assert [o.first for o in outcomes if isinstance(o, Commit)] == [1, 2, 3, 4]


def test_a_closed_store_appends_none_of_several(store: EventStore) -> None:
    store.close()
    outcomes = store.append_each([NewCommit([noted(note(), 1)]) for _ in range(2)])
    assert [type(outcome) for outcome in outcomes] == [StoreClosedError] * 2
