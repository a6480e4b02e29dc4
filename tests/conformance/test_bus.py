"""What every bus does. A bus is added as a fixture function and its entry in ``BUSES``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import count
from threading import Barrier, Thread
from uuid import uuid4

import pytest

from shop.backends.memory import MemoryEventBus, MemoryEventStore
from shop.backends.nats import Access, NatsConnection, NatsEventBus, Relay, StreamConfig
from shop.eventsourcing import EventBus, Subscription
from shop.eventsourcing.threads import BackgroundThread
from tests.conftest import Eventually
from tests.interrupting import press_ctrl_c_during
from tests.notebook import AnyEvent, counted, note, noted, positions, registry, stored, stream


def memory(request: pytest.FixtureRequest) -> AbstractContextManager[EventBus]:
    return closing(MemoryEventBus())


def over_nats(address: str, prefix: str) -> NatsEventBus:
    connection = NatsConnection(Access(servers=[address]), echo=False)
    assert connection.wait_connected(10)
    return NatsEventBus(connection, MemoryEventBus(), registry(), prefix=prefix)


def core(request: pytest.FixtureRequest) -> AbstractContextManager[EventBus]:
    return closing(over_nats(request.getfixturevalue("nats"), f"test.{uuid4()}"))


@contextmanager
def jetstream(request: pytest.FixtureRequest) -> Iterator[EventBus]:
    """The same with a relay beside it, which takes the log to a stream."""
    prefix, address = f"t{uuid4().hex}", request.getfixturevalue("nats")
    with (
        closing(over_nats(address, prefix)) as bus,
        NatsConnection(Access(servers=[address])) as connection,
    ):
        store = MemoryEventStore(registry())
        relay = Relay(connection, store, bus, StreamConfig(name=prefix), href="{id}", prefix=prefix)
        relay.start()
        yield bus
        assert relay.close(10)


BUSES: dict[str, Callable[[pytest.FixtureRequest], AbstractContextManager[EventBus]]] = {
    "memory": memory,
    "nats": core,
    "nats+jetstream": jetstream,
}


@pytest.fixture(params=BUSES)
def bus(request: pytest.FixtureRequest) -> Iterator[EventBus]:
    """A bus without subscribers, of each kind in turn."""
    with BUSES[request.param](request) as opened:
        yield opened


def events(count: int) -> list[AnyEvent]:
    return stored(stream(note(), count))


def take(subscription: Subscription, count: int) -> list[AnyEvent]:
    """The next so many events, taken in as many portions as it needs."""
    taken: list[AnyEvent] = []
    deadline = time.monotonic() + 10
    while len(taken) < count and time.monotonic() < deadline:
        taken += subscription.take(0.2)
    return taken


def test_everybody_who_subscribed_gets_each_event_in_order(bus: EventBus) -> None:
    published = events(20)
    one, other = bus.subscribe(), bus.subscribe()

    bus.publish(published[:5])
    bus.publish(published[5:])

    assert take(one, 20) == published
    assert take(other, 20) == published


def test_a_subscription_to_names_gets_those_alone(bus: EventBus) -> None:
    ref = note()
    published = stored([noted(ref, 1), counted(ref, 2), noted(ref, 3)])
    counts = bus.subscribe("notebook.counted")
    both = bus.subscribe("notebook.counted", "notebook.noted")
    neither = bus.subscribe("notebook.burnt")

    bus.publish(published)

    assert take(both, 3) == published
    assert take(counts, 1) == [published[1]]
    assert neither.take(0) == []


def test_a_name_may_be_given_by_what_it_looks_like(bus: EventBus) -> None:
    ref = note()
    published = stored([noted(ref, 1), counted(ref, 2), noted(ref, 3)])
    words, rest = bus.subscribe("notebook.*"), bus.subscribe("notebook.>")
    fewer, mixed = bus.subscribe("*"), bus.subscribe("shop.>", "*.counted")

    bus.publish(published)

    assert take(words, 3) == published
    assert take(rest, 3) == published
    assert take(mixed, 1) == [published[1]]
    assert fewer.take(0) == []


@pytest.mark.parametrize("pattern", ["", "shop.", ".noted", "shop.>.x", "no*ted.x", "a b", "a.>>"])
def test_what_is_no_name_nor_pattern_is_refused(bus: EventBus, pattern: str) -> None:
    with pytest.raises(ValueError, match="nor a pattern"):
        bus.subscribe(pattern)


def test_of_a_group_one_gets_each_event(bus: EventBus) -> None:
    published = events(100)
    everybody = bus.subscribe()
    members = [bus.subscribe("notebook.>", "notebook.noted", group="workers") for _ in range(3)]
    other = bus.subscribe(group="others")

    bus.publish(published)

    assert take(everybody, 100) == published
    assert take(other, 100) == published
    taken: list[AnyEvent] = []
    deadline = time.monotonic() + 10
    while len(taken) < 100 and time.monotonic() < deadline:
        for member in members:
            taken += member.take(0.01)
    assert sorted(positions(taken)) == positions(published)


def test_a_group_goes_on_without_a_member_that_was_closed(bus: EventBus) -> None:
    published = events(10)
    one, other = bus.subscribe(group="workers"), bus.subscribe(group="workers")

    one.close()
    bus.publish(published)

    assert take(other, 10) == published
    assert one.take(0) == []


def test_what_was_published_before_is_not_received(bus: EventBus) -> None:
    before, after = events(1), events(1)
    bus.publish(before)

    subscription = bus.subscribe()
    bus.publish(after)

    assert take(subscription, 1) == after


def test_publishing_to_nobody_and_publishing_nothing_do_nothing(bus: EventBus) -> None:
    bus.publish(events(3))
    subscription = bus.subscribe()

    bus.publish([])

    assert subscription.take(0) == []


def test_taking_waits_for_an_event(bus: EventBus) -> None:
    published = events(1)
    subscription = bus.subscribe()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(subscription.take, 10)
        bus.publish(published)

        assert taken.result(10) == published


def test_taking_ends_empty_when_its_time_is_over(bus: EventBus) -> None:
    subscription = bus.subscribe()
    began = time.monotonic()

    assert subscription.take(0.05) == []

    assert time.monotonic() - began >= 0.04


def test_what_finds_the_queue_full_is_dropped_and_counted(bus: EventBus) -> None:
    published = events(10)
    full = bus.subscribe(capacity=4)
    roomy = bus.subscribe(capacity=100)

    bus.publish(published[:3])
    bus.publish(published[3:])

    assert take(roomy, 10) == published
    assert full.lost == 6
    assert take(full, 4) == published[:4]
    assert roomy.lost == 0


def test_there_is_room_again_after_taking(bus: EventBus) -> None:
    published = events(4)
    subscription = bus.subscribe(capacity=2)

    bus.publish(published[:2])
    first = take(subscription, 2)
    bus.publish(published[2:])

    assert first + take(subscription, 2) == published
    assert subscription.lost == 0


def test_a_publisher_never_waits_for_a_subscriber_that_does_not_take(bus: EventBus) -> None:
    idle = bus.subscribe(capacity=1)
    portion = events(100)

    def publish() -> None:
        for _ in range(100):
            bus.publish(portion)

    publisher = Thread(target=publish)
    publisher.start()
    publisher.join(10)

    assert not publisher.is_alive()
    assert len(idle.take(1)) == 1


def test_what_others_said_is_told_no_sooner_than_it_is_taken() -> None:
    """Else the follower who had just taken his own would take the next for his own, too."""
    with closing(MemoryEventBus()) as bus, bus.subscribe() as subscription:
        own, others = stored(stream(note(), 2))
        bus.publish([own])
        assert subscription.take(0) == [own]
        bus.publish([others], remote=True)
        assert subscription.remote == 0
        assert subscription.take(0) == [others]
        assert subscription.remote == 1


def test_a_queue_has_room_for_one_at_least(bus: EventBus) -> None:
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        bus.subscribe(capacity=0)


def test_concurrent_publishers_lose_nothing_and_keep_each_ones_order(bus: EventBus) -> None:
    portions = [events(200) for _ in range(4)]
    subscription = bus.subscribe(capacity=1000)
    start = Barrier(4)

    def publish(portion: list[AnyEvent]) -> None:
        start.wait()
        for event in portion:
            bus.publish([event])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(publish, portion) for portion in portions]:
            done.result()

    taken = take(subscription, 800)
    for portion in portions:
        assert [event for event in taken if event.aggregate == portion[0].aggregate] == portion
    assert len(taken) == 800


def test_waking_ends_the_wait_under_way(bus: EventBus) -> None:
    subscription = bus.subscribe()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(subscription.take, 10)
        subscription.wake()

        assert taken.result(5) == []


def test_waking_ends_the_next_wait_and_no_other(bus: EventBus) -> None:
    subscription = bus.subscribe()
    began = time.monotonic()

    subscription.wake()

    assert subscription.take(10) == []
    assert time.monotonic() - began < 5
    assert subscription.take(0.05) == []
    assert time.monotonic() - began >= 0.04


def test_waking_loses_no_event(bus: EventBus) -> None:
    published = events(2)
    subscription = bus.subscribe()

    bus.publish(published)
    subscription.wake()

    assert take(subscription, 2) == published


def test_iterating_gives_each_event_until_the_subscription_is_closed(
    bus: EventBus, eventually: Eventually
) -> None:
    published = events(3)
    subscription = bus.subscribe()
    seen: list[AnyEvent] = []
    reader = Thread(target=lambda: seen.extend(subscription))
    reader.start()
    wakes = count(1)

    def woken_often() -> bool:
        subscription.wake()
        return next(wakes) == 10

    bus.publish(published[:2])
    eventually(lambda: len(seen) == 2)
    eventually(woken_often)
    bus.publish(published[2:])
    eventually(lambda: len(seen) == 3)
    subscription.close()
    reader.join(5)

    assert not reader.is_alive()
    assert positions(seen) == [1, 2, 3]


def test_closing_a_subscription_ends_the_wait_on_it(bus: EventBus) -> None:
    subscription = bus.subscribe()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(subscription.take)
        subscription.close()

        assert taken.result(5) == []
    assert subscription.closed


def test_a_closed_subscription_gets_nothing_more_and_gives_what_it_had(bus: EventBus) -> None:
    published = events(2)
    closed, other = bus.subscribe(), bus.subscribe()
    bus.publish(published[:1])
    take(other, 1)

    closed.close()
    bus.publish(published[1:])
    take(other, 1)

    assert closed.take() == published[:1]
    assert closed.take() == []
    assert list(closed) == []


def test_a_subscription_closes_at_the_end_of_its_block(bus: EventBus) -> None:
    with bus.subscribe() as subscription:
        assert not subscription.closed

    assert [subscription.closed] == [True]


def test_closing_twice_does_nothing(bus: EventBus) -> None:
    subscription = bus.subscribe()

    subscription.close()
    subscription.close()
    bus.close()
    bus.close()

    assert subscription.closed


def test_closing_the_bus_closes_all_subscriptions(bus: EventBus) -> None:
    one, other = bus.subscribe(), bus.subscribe()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(one.take), pool.submit(list, other)]
        bus.close()

        assert [wait.result(5) for wait in waiting] == [[], []]
    assert one.closed
    assert other.closed


def test_a_closed_bus_publishes_nothing_and_gives_closed_subscriptions(bus: EventBus) -> None:
    bus.close()

    late = bus.subscribe()
    bus.publish(events(1))

    assert late.closed
    assert late.take() == []


def test_a_publisher_who_is_interrupted_keeps_no_subscriber_waiting(
    bus: EventBus, eventually: Eventually, ctrl_c: None
) -> None:
    published, taken = events(1), list[AnyEvent]()
    with bus.subscribe(capacity=10**6) as subscription:

        def take_all(stopping: threading.Event) -> None:
            for event in subscription:
                taken.append(event)

        def publish_and_await() -> None:
            seen = len(taken)
            bus.publish(published)
            eventually(lambda: len(taken) > seen)

        taker = BackgroundThread("taker", take_all)
        taker.start()
        for _ in range(100):
            press_ctrl_c_during(lambda: bus.publish(published), within=0.002)
            publish_and_await()
    assert taker.close(10)
