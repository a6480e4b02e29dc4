"""The publishing store: what is stored reaches the bus, in the store's order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import uuid4

import pytest

from shop.backends.memory import MemoryEventBus, MemoryEventStore
from shop.bootstrap import open_event_store
from shop.eventsourcing import (
    Commit,
    ConcurrencyError,
    NewCommit,
    PublishingStore,
    Query,
    StoreClosedError,
    Subscription,
)
from shop.eventsourcing.threads import BackgroundThread
from tests.eventsourcing.counting import CountingStore
from tests.interrupting import press_ctrl_c_during
from tests.notebook import Noted, note, noted, positions, registry, stored, stream


@pytest.fixture
def bus() -> Iterator[MemoryEventBus]:
    bus = MemoryEventBus()
    yield bus
    bus.close()


@pytest.fixture
def published(bus: MemoryEventBus) -> Subscription:
    return bus.subscribe(capacity=100_000)


@pytest.fixture
def store(bus: MemoryEventBus) -> PublishingStore:
    return PublishingStore(MemoryEventStore(registry()), bus)


def test_what_is_appended_is_published_with_its_positions(
    store: PublishingStore, published: Subscription
) -> None:
    events = stream(note(), 3)
    store.append(events)
    assert published.take(0) == stored(events)
    more = stream(note(), 2)
    store.append(more)
    assert published.take(0) == stored(more, 4)


def test_what_is_refused_is_not_published(store: PublishingStore, published: Subscription) -> None:
    with pytest.raises(ConcurrencyError):
        store.append([noted(note(), 2)])
    assert published.take(0) == []
    store.append([noted(note(), 1)])
    assert positions(published.take(0)) == [1]


def test_a_repeat_is_not_published_again(store: PublishingStore, published: Subscription) -> None:
    events, commit_id = stream(note(), 1), uuid4()
    store.append(events, commit_id=commit_id)
    assert store.append(events, commit_id=commit_id).replayed
    assert len(published.take(0)) == 1


def test_an_empty_append_publishes_nothing_and_holds_nothing_up(
    store: PublishingStore, published: Subscription
) -> None:
    store.append([])
    assert published.take(0) == []
    store.append(stream(note(), 1))
    assert positions(published.take(0)) == [1]


def test_it_begins_in_the_middle_of_a_log(bus: MemoryEventBus, published: Subscription) -> None:
    inner = MemoryEventStore(registry())
    inner.append(stream(note(), 5))
    PublishingStore(inner, bus).append(stream(note(), 1))
    assert positions(published.take(0)) == [6]


def test_what_others_wrote_meanwhile_holds_nothing_up(
    bus: MemoryEventBus, published: Subscription
) -> None:
    inner = MemoryEventStore(registry())
    store = PublishingStore(inner, bus)
    store.append(stream(note(), 1))
    inner.append(stream(note(), 1))  # as another process would
    store.append(stream(note(), 1))
    assert positions(published.take(0)) == [1, 3]


def test_it_reads_as_the_store_that_it_wraps(bus: MemoryEventBus) -> None:
    inner = MemoryEventStore(registry())
    with PublishingStore(inner, bus) as store:
        commit = store.append(stream(note(), 2))
        assert list(store.read()) == list(inner.read())
        assert store.head() == 2
        assert store.find_commit(commit.id) == inner.find_commit(commit.id)
        assert store.info() == inner.info()
    with pytest.raises(StoreClosedError):
        inner.head()


def test_what_was_just_published_is_read_without_the_store(bus: MemoryEventBus) -> None:
    inner = CountingStore(MemoryEventStore(registry()))
    with PublishingStore(inner, bus) as store:
        events = stream(note(), 3)
        store.append(events[:2])
        store.append(events[2:])
        assert list(store.read(Query(after=1, to=3))) == stored(events)[1:]
        assert inner.reads == 0
        inner.append(stream(note(), 1))  # as another process would
        store.append(stream(note(), 1))
        assert positions(store.read(Query(after=3, to=5))) == [4, 5]
        assert inner.reads == 1
    with pytest.raises(StoreClosedError):
        list(store.read(Query(after=4, to=5)))


class Held(MemoryEventStore):
    """A store whose appends are stored at once, but return when the test lets them."""

    def __init__(self) -> None:
        super().__init__(registry())
        names = ("first", "second", "third")
        self.stored = {name: threading.Event() for name in names}
        self.released = {name: threading.Event() for name in names}

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        [event] = commits[0].events
        assert isinstance(event.data, Noted)
        name = event.data.text
        try:
            return super().append_each(commits)
        finally:
            self.stored[name].set()
            assert self.released[name].wait(10)

    def begin(
        self, store: PublishingStore, pool: ThreadPoolExecutor, name: str, version: int = 1
    ) -> Future[Commit]:
        """Append an event of that name; the append ends when the test lets it."""
        future = pool.submit(store.append, [noted(note(), version, name)])
        assert self.stored[name].wait(10)
        return future


def test_a_commit_that_returns_early_waits_for_the_one_before_it(
    bus: MemoryEventBus, published: Subscription
) -> None:
    held = Held()
    store = PublishingStore(held, bus)
    with ThreadPoolExecutor(2) as pool:
        first = held.begin(store, pool, "first")
        second = held.begin(store, pool, "second")
        held.released["second"].set()
        assert second.result(10).first == 2
        assert published.take(0) == []
        held.released["first"].set()
        first.result(10)
    assert positions(published.take(0)) == [1, 2]


def test_a_failed_append_lets_those_behind_it_go(
    bus: MemoryEventBus, published: Subscription
) -> None:
    held = Held()
    others = NewCommit(stream(note(), 1))
    MemoryEventStore.append_each(held, [others])  # by another process: the gap before what follows
    store = PublishingStore(held, bus)
    with ThreadPoolExecutor(2) as pool:
        failing = held.begin(store, pool, "first", version=7)
        second = held.begin(store, pool, "second")
        held.released["second"].set()
        second.result(10)
        assert published.take(0) == []  # the one under way might yet turn out to come before it
        held.released["first"].set()
        with pytest.raises(ConcurrencyError):
            failing.result(10)
    assert positions(published.take(0)) == [2]


def test_only_those_that_began_before_it_ended_hold_a_commit_up(
    bus: MemoryEventBus, published: Subscription
) -> None:
    held = Held()
    others = NewCommit(stream(note(), 1))
    MemoryEventStore.append_each(held, [others])  # by another process
    store = PublishingStore(held, bus)
    with ThreadPoolExecutor(3) as pool:
        failing = held.begin(store, pool, "first", version=7)
        second = held.begin(store, pool, "second")
        held.released["second"].set()
        second.result(10)
        third = held.begin(store, pool, "third")
        held.released["first"].set()
        assert isinstance(failing.exception(10), ConcurrencyError)
        assert positions(published.take(0)) == [2]
        held.released["third"].set()
        third.result(10)
    assert positions(published.take(0)) == [3]


def test_many_threads_publish_in_order_and_leave_nothing_out(
    bus: MemoryEventBus, published: Subscription, local_url: str
) -> None:
    inner = open_event_store(local_url, registry())
    with PublishingStore(inner, bus) as store, ThreadPoolExecutor(8) as pool:
        works = [pool.submit(store.append, stream(note(), 1 + n % 3)) for n in range(400)]
        for work in works:
            work.result(30)
        assert published.take(0) == list(store.read())


def test_an_interrupted_append_keeps_nothing_from_being_published(
    bus: MemoryEventBus, store: PublishingStore, restless: None, ctrl_c: None
) -> None:
    def append_more(stopping: threading.Event) -> None:
        while not stopping.is_set():
            store.append([noted(note(), 1)])

    others = [BackgroundThread(name, append_more) for name in "abc"]
    for other in others:
        other.start()
    for _ in range(200):
        press_ctrl_c_during(lambda: store.append([noted(note(), 1)]))
    assert all(other.close(10) for other in others)
    published = bus.subscribe()
    commit = store.append([noted(note(), 1)])
    assert positions(published.take(0)) == [commit.last]
