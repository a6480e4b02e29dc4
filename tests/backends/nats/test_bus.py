"""The bus over NATS between processes: each of them has a bus of its own here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import islice
from random import Random
from uuid import uuid4

import pytest

from shop.backends.memory import MemoryEventBus, MemoryEventStore, MemoryModelStore
from shop.backends.nats import Access, NatsConnection, NatsEventBus
from shop.eventsourcing import EventStore, ProjectionRunner, PublishingStore, Shadow
from shop.eventsourcing.events.envelope import encode_event
from shop.projections.product_catalog import ProductCatalog
from tests.conftest import Eventually
from tests.notebook import Noted, note, noted, registry, stored, stream
from tests.real.nats import publish

NewBus = Callable[[], NatsEventBus]


@pytest.fixture
def prefix() -> str:
    return f"test.{uuid4()}"


@pytest.fixture
def new_bus(nats: str, prefix: str) -> Iterator[NewBus]:
    with ExitStack() as opened:

        def new() -> NatsEventBus:
            connection = NatsConnection(Access(servers=[nats]), echo=False)
            assert connection.wait_connected(10)
            bus = NatsEventBus(connection, MemoryEventBus(), registry(), prefix=prefix)
            opened.callback(bus.close)
            return bus

        yield new


def heard_more(bus: NatsEventBus, than: float) -> bool:
    return bus.status().figures["heard_total"] > than


def test_other_processes_hear_of_it_and_this_one_once(new_bus: NewBus) -> None:
    one, other = new_bus(), new_bus()
    here, there = one.subscribe(), other.subscribe("notebook.*")
    published = stored(stream(note(), 50))

    one.publish(published)

    heard = list(islice(there, 50))
    assert heard == published
    assert here.take(1) == published
    assert (here.remote, there.remote) == (0, 50)
    other.publish(stored(stream(note(), 1)))  # comes after whatever else would come
    assert len(here.take(5)) == 1


def test_of_a_group_one_process_gets_each_event(new_bus: NewBus, eventually: Eventually) -> None:
    one, other = new_bus(), new_bus()
    members = [one.subscribe(group="g"), other.subscribe(group="g")]
    published = stored(stream(note(), 100))
    taken: list[int] = []

    one.publish(published)

    def all_there() -> bool:
        for member in members:
            taken.extend(event.position for event in member.take(0.01))
        return len(taken) >= 100

    eventually(all_there)
    assert sorted(taken) == list(range(1, 101))


def test_prefixes_keep_buses_apart(new_bus: NewBus, nats: str) -> None:
    one = new_bus()
    connection = NatsConnection(Access(servers=[nats]), echo=False)
    assert connection.wait_connected(10)
    foreign = NatsEventBus(connection, MemoryEventBus(), registry(), prefix=f"x{uuid4().hex}")
    try:
        heard = one.subscribe()
        foreign.publish(stored(stream(note(), 3)))
        assert heard.take(0.2) == []
    finally:
        foreign.close()


def test_what_is_published_just_before_the_end_is_still_sent(new_bus: NewBus) -> None:
    one, other = new_bus(), new_bus()
    there = other.subscribe(capacity=10_000)
    one.publish(stored(stream(note(), 5000)))

    one.close()

    heard = [event.position for event in islice(there, 5000)]
    assert heard == list(range(1, 5001))


@pytest.mark.parametrize("group", ["", "g"])
def test_whoever_subscribes_while_it_is_closed_has_a_closed_subscription(
    new_bus: NewBus, group: str
) -> None:
    def subscribe(bus: NatsEventBus) -> None:
        while not bus.subscribe(group=group).closed:
            pass

    with ThreadPoolExecutor(4) as threads:
        for _ in range(30):
            bus = new_bus()
            subscribing = [threads.submit(subscribe, bus) for _ in range(4)]
            bus.close()
            for each in subscribing:
                each.result(timeout=10)


def test_what_is_no_event_is_counted_and_harms_nobody(
    new_bus: NewBus, nats: str, prefix: str, eventually: Eventually
) -> None:
    bus = new_bus()
    heard = bus.subscribe()
    unknown = encode_event(stored([noted(note(), 1)])[0]).replace(b"notebook.noted", b"a.b")
    with NatsConnection(Access(servers=[nats])) as connection:
        assert connection.wait_connected(10)
        for rubbish in (b"", b"\xff", b"{}", b"[]", b'{"position": 1}', unknown):
            publish(connection, f"{prefix}.live.notebook.noted", rubbish)
        eventually(lambda: bus.status().figures["unreadable_total"] == 6)
    assert heard.take(0) == []


def test_read_models_are_right_whatever_happens_to_messages(
    nats: str, prefix: str, new_bus: NewBus, eventually: Eventually
) -> None:
    """Lost, repeated, out of order, late, of other positions: the store alone is believed."""
    from shop.domain.product import ProductCreated
    from shop.eventsourcing import AggregateRef, Event, EventData, Registry

    events: Registry[EventData] = Registry([ProductCreated, Noted])
    random = Random(5)
    store: EventStore = MemoryEventStore(events)
    connection = NatsConnection(Access(servers=[nats]), echo=False)
    assert connection.wait_connected(10)
    bus = NatsEventBus(connection, MemoryEventBus(), events, prefix=prefix)
    models = MemoryModelStore()
    runner = ProjectionRunner(ProductCatalog(), store, models, bus)
    runner.start()
    slowest = 0.0
    try:
        with NatsConnection(Access(servers=[nats])) as forger:
            assert forger.wait_connected(10)
            for _ in range(5):
                for _ in range(40):
                    ref = AggregateRef("shop.product", uuid4())
                    store.append(  # nobody is told of it
                        [Event.new(ref, version=1, data=ProductCreated("Mouse", 1))]
                    )
                # Said to be next, and of no concern: whoever believes it passes by a product.
                heard = bus.status().figures["heard_total"]
                lie = Event.new(ref, version=2, data=Noted("x")).at(runner.position + 1)
                publish(forger, f"{prefix}.live.{lie.name}", encode_event(lie))
                eventually(partial(heard_more, bus, heard))
                known = list(store.read())
                for event in random.choices(known, k=60):
                    # Of other names and positions too: as if of no concern, and next in order.
                    position = random.choice([event.position, runner.position + 1, 10**6])
                    foreign = Event.new(event.aggregate, version=2, data=Noted("x")).at(position)
                    forged = random.choice([event.at(position), foreign])
                    publish(forger, f"{prefix}.live.{forged.name}", encode_event(forged))
                began = time.monotonic()
                eventually(lambda: runner.position == store.head())
                slowest = max(slowest, time.monotonic() - began)
        with Shadow(ProductCatalog(), store, models) as shadow:
            assert shadow.differences() == []
        assert slowest < 2
    finally:
        runner.close(5)
        bus.close()


def test_the_publishing_store_reaches_other_processes_in_order(new_bus: NewBus) -> None:
    one, other = new_bus(), new_bus()
    there = other.subscribe()
    store = PublishingStore(MemoryEventStore(registry()), one)
    for _ in range(20):
        store.append([noted(note(), 1)])
    heard = [event.position for event in islice(there, 20)]
    assert heard == list(range(1, 21))
