"""A store over its life: its identity, its end, and what a later program finds in it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shop.eventsourcing import (
    ConcurrencyError,
    Event,
    EventData,
    EventDecodeError,
    EventStore,
    Query,
    Registry,
    StoreClosedError,
    event,
)
from tests.conftest import Eventually
from tests.notebook import AnyEvent, Noted, counted, note, noted, registry, stored, stream
from tests.stores import NewStorage, Storage


def test_each_store_has_an_identity_of_its_own(new_storage: NewStorage) -> None:
    one, other = new_storage().open(), new_storage().open()
    assert one.info().identity == one.info().identity
    assert one.info().identity != other.info().identity


def test_the_stores_clock_shows_the_time(store: EventStore) -> None:
    before, shown, after = datetime.now(UTC), store.now(), datetime.now(UTC)
    assert shown.utcoffset() == timedelta(0)
    # Clocks of stores have milliseconds, some of them.
    assert before - timedelta(milliseconds=1) <= shown <= after


def test_a_store_knows_the_kinds_of_its_events(store: EventStore) -> None:
    assert store.info().kinds == frozenset()
    store.append([noted(note(), 1)])
    assert store.info().kinds == {("notebook.noted", 1)}
    store.append([noted(note(), 1), counted(note(), 1)])
    assert store.info().kinds == {("notebook.noted", 1), ("notebook.counted", 1)}


def test_a_closed_store_refuses_everything(new_storage: NewStorage) -> None:
    store = new_storage().open()
    store.append([noted(note(), 1)])
    store.close()
    store.close()
    for use in (
        lambda: store.append([noted(note(), 1)]),
        lambda: store.append([]),
        lambda: list(store.read()),
        store.head,
        lambda: store.find_commit(uuid4()),
        store.info,
    ):
        with pytest.raises(StoreClosedError):
            use()


def test_a_store_is_closed_at_the_end_of_its_with_block(new_storage: NewStorage) -> None:
    with new_storage().open() as store:
        store.head()
    with pytest.raises(StoreClosedError):
        store.head()


@pytest.mark.parametrize("which", ["store", "backend"])
def test_what_is_under_way_when_it_is_closed_has_its_true_outcome(
    durable: Storage, which: str, eventually: Eventually
) -> None:
    """What was appended is told so, and what was not raises that the store is closed."""
    backend = durable.backend()
    store = backend.events(registry())
    told: deque[UUID] = deque()

    def append_until_the_end() -> None:
        while True:
            told.append(store.append([noted(note(), 1)]).id)

    with ThreadPoolExecutor(8) as pool:
        appending = [pool.submit(append_until_the_end) for _ in range(8)]
        try:
            eventually(lambda: len(told) > 100)
        finally:
            (store if which == "store" else backend).close()
        errors = [type(work.exception(30)) for work in appending]

    assert errors == [StoreClosedError] * 8
    assert {commit.id for commit in durable.open().commits()} == set(told)


def test_everything_is_there_when_a_store_is_opened_again(durable: Storage) -> None:
    events, ref, commit_id = stream(note(), 3), note(), uuid4()
    with durable.open() as store:
        store.append(events)
        commit = store.append([noted(ref, 1)], commit_id=commit_id)
        info = store.info()
    with durable.open() as store:
        assert list(store.read(Query(to=3))) == stored(events)
        assert store.head() == 4
        assert store.info() == info
        assert store.find_commit(commit_id) is not None
        again = store.append([noted(ref, 1)], commit_id=commit_id)
        assert (again.first, again.last, again.replayed) == (commit.first, commit.last, True)
        with pytest.raises(ConcurrencyError):
            store.append([noted(ref, 1)])
        assert store.append([noted(ref, 2)]).first == 5


def test_two_stores_on_the_same_data_see_each_others_events(durable: Storage) -> None:
    one, other, ref = durable.open(), durable.open(), note()
    one.append([noted(ref, 1)])
    assert other.head() == 1
    assert other.append([noted(ref, 2)]).first == 2
    with pytest.raises(ConcurrencyError):
        one.append([noted(ref, 2)])
    assert [e.version for e in one.read()] == [1, 2]
    assert one.info() == other.info()


# What another program, or a later version of this one, may have written under the same names.


@event("notebook.noted", version=2)
class NotedLater(EventData, frozen=True):
    text: str
    language: str


@event("notebook.noted")
class NotedOtherwise(EventData, frozen=True):
    text: int


@event("notebook.drawn")
class Drawn(EventData, frozen=True):
    colours: int


@event("notebook.noted", version=2, upcasters={1: lambda old: old | {"language": "en"}})
class NotedNow(EventData, frozen=True):
    text: str
    language: str


@pytest.mark.parametrize(
    ("written", "known", "reason"),
    [
        (Drawn(3), [Noted], "no class is registered.*the module that has its class"),
        (NotedLater("hello", "en"), [Noted], "newer"),
        (NotedOtherwise(7), [Noted], "/text.*raise its version and add an upcaster"),
        (Noted("hello"), [NotedLater], "no upcaster from schema version 1 to 2$"),
    ],
    ids=["unknown name", "newer schema", "other data", "no upcaster"],
)
def test_an_event_that_cannot_be_decoded_is_named(
    durable: Storage, written: EventData, known: list[type[EventData]], reason: str
) -> None:
    with durable.open(Registry([type(written)])) as store:
        bad: AnyEvent = Event.new(note(), version=1, data=written)
        store.append([Event.new(note(), version=1, data=written), bad])
    reading = durable.open(Registry(known)).read(Query(after=1))
    with pytest.raises(EventDecodeError, match=reason) as refused:
        next(reading)
    assert refused.value.event_id == bad.id
    assert refused.value.name == written.wire.name
    assert refused.value.position == 2


def test_what_comes_before_an_undecodable_event_is_read(durable: Storage) -> None:
    with durable.open(Registry([Noted, Drawn])) as store:
        ref = note()
        store.append([noted(ref, 1), Event.new(ref, version=2, data=Drawn(3)), noted(ref, 3)])
    store = durable.open(Registry([Noted]))
    reading = store.read()
    assert next(reading).position == 1
    with pytest.raises(EventDecodeError):
        next(reading)
    assert [e.position for e in store.read(Query(names=["notebook.noted"]))] == [1, 3]
    assert store.head() == 3


def test_an_older_event_is_read_through_its_upcaster(durable: Storage) -> None:
    ref = note()
    with durable.open() as store:
        store.append([noted(ref, 1, "hello")])
    store = durable.open(Registry[EventData]([NotedNow]))
    store.append([Event.new(ref, version=2, data=NotedNow("salut", "fr"))])
    assert [e.data for e in store.read()] == [NotedNow("hello", "en"), NotedNow("salut", "fr")]
    assert store.info().kinds == {("notebook.noted", 1), ("notebook.noted", 2)}
