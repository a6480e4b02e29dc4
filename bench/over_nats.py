"""NATS: the relay, the bus, commands, and how soon another process has a read model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench import commands_over_nats
from bench.measure import Bench, Row, Samples, percentile
from shop.backends.memory import MemoryEventBus, MemoryEventStore, MemoryModelStore
from shop.backends.nats import Access, NatsConnection, NatsEventBus, Relay, StreamConfig
from shop.bootstrap import event_registry
from shop.domain.product import ProductCreated
from shop.eventsourcing import AggregateRef, Event, EventData, ProjectionRunner, PublishingStore
from shop.eventsourcing.events.envelope import encode_event
from shop.projections.product_catalog import ProductCatalog
from tests.real.nats import NatsServer

_EVENTS = 10_000
_ROUNDS = 9
_COMMITS = 300


def run(bench: Bench) -> Iterator[Row]:
    """Each beside what nats-py does alone with the same messages."""
    with NatsServer() as server:
        events = _events(_EVENTS)
        bench.say(f"nats: {_EVENTS} events to a stream, in turns with raw publishing")
        samples = bench.in_turns(
            {
                "raw": lambda: asyncio.run(_raw_stream(server, events)),
                "ours": lambda: _relay(server, events),
            },
            rounds=_ROUNDS,
        )
        yield _row("relay: events from the log to a stream", samples, 0.7)
        bench.say(f"nats: {_EVENTS} events from one bus to another, in turns with raw messages")
        samples = bench.in_turns(
            {
                "raw": lambda: asyncio.run(_raw_core(server, events)),
                "ours": lambda: _bus(server, events),
            },
            rounds=_ROUNDS,
        )
        yield _row("Core: published here -> taken there", samples, 0.5)
        yield from commands_over_nats.run(bench, server.address)
        bench.say(f"nats: {_COMMITS} commits, each seen in a read model beyond NATS")
        seconds = _beyond(server)
        for percent in (50, 99):
            yield Row(
                theme="nats",
                what=f"committed here -> read model there, p{percent}",
                unit="ms",
                ours=1000 * percentile(seconds, percent),
            )


def _row(what: str, samples: Samples, target: float) -> Row:
    ratio = samples.ratio("ours", "raw")
    return Row(
        theme="nats",
        what=what,
        unit="events/s",
        ours=samples.typical("ours"),
        raw=samples.typical("raw"),
        ratio=ratio,
        target=f">= {target}",
        met=ratio >= target,
    )


def _events(count: int) -> list[Event[EventData]]:
    return [
        Event.new(
            AggregateRef("shop.product", uuid4()), version=1, data=ProductCreated("Mouse", 50)
        ).at(position)
        for position in range(1, count + 1)
    ]


def _relay(server: NatsServer, events: list[Event[EventData]]) -> float:
    store = MemoryEventStore(event_registry())
    store.append(events)
    name = f"b{uuid4().hex}"
    with NatsConnection(Access(servers=[server.address])) as connection:
        connection.wait_connected(10)
        relay = Relay(
            connection, store, MemoryEventBus(), StreamConfig(name=name), href="{id}", prefix=name
        )
        began = time.perf_counter()
        relay.start()
        while relay.position < len(events):
            connection.pause(0.001)
        seconds = time.perf_counter() - began
        relay.close(5)
    return len(events) / seconds


async def _raw_stream(server: NatsServer, events: list[Event[EventData]]) -> float:
    messages = [(str(event.id), encode_event(event)) for event in events]
    client = await nats.connect(server.address)
    name = f"b{uuid4().hex}"
    js = client.jetstream()
    await js.add_stream(name=name, subjects=[f"{name}.>"])
    began = time.perf_counter()
    for number, (id, data) in enumerate(messages):
        headers = {
            "Nats-Msg-Id": id,
            "Shop-Position": str(number + 1),
            "Nats-Expected-Last-Sequence": str(number),
        }
        await js.publish_async(f"{name}.shop.product.created", data, headers=headers)
    await js.publish_async_completed()
    seconds = time.perf_counter() - began
    await client.close()
    return len(events) / seconds


def _open(server: NatsServer, prefix: str) -> NatsEventBus:
    connection = NatsConnection(Access(servers=[server.address]), echo=False)
    connection.wait_connected(10)
    return NatsEventBus(connection, MemoryEventBus(), event_registry(), prefix=prefix)


def _bus(server: NatsServer, events: list[Event[EventData]]) -> float:
    prefix = f"b{uuid4().hex}"
    with closing(_open(server, prefix)) as here, closing(_open(server, prefix)) as there:
        subscription = there.subscribe(capacity=len(events))
        pause = threading.Event()
        began = time.perf_counter()
        for first in range(0, len(events), 100):
            here.publish(events[first : first + 100])
            while here.status().figures["outbox_bytes"] > 2**20:  # more might be dropped
                pause.wait(0.001)
        taken = 0
        while taken < len(events):
            portion = subscription.take(10)
            assert portion, "a message was lost"
            taken += len(portion)
        return len(events) / (time.perf_counter() - began)


async def _raw_core(server: NatsServer, events: list[Event[EventData]]) -> float:
    messages = [encode_event(event) for event in events]
    here, there = Client(), Client()
    await here.connect(server.address)
    await there.connect(server.address)
    done = asyncio.Event()
    taken = 0

    async def take(message: Msg) -> None:
        nonlocal taken
        taken += 1
        if taken == len(messages):
            done.set()

    subject = f"b{uuid4().hex}"
    await there.subscribe(subject, cb=take)
    await there.flush()
    began = time.perf_counter()
    for number, data in enumerate(messages):
        await here.publish(subject, data)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await done.wait()
    seconds = time.perf_counter() - began
    await here.close()
    await there.close()
    return len(messages) / seconds


def _beyond(server: NatsServer) -> list[float]:
    """Seconds from the return of a commit until a projection that only NATS wakes has it."""
    prefix = f"b{uuid4().hex}"
    store = MemoryEventStore(event_registry())
    with closing(_open(server, prefix)) as here, closing(_open(server, prefix)) as there:
        runner = ProjectionRunner(ProductCatalog(), store, MemoryModelStore(), there)
        runner.start()
        published = PublishingStore(store, here)
        seconds = []
        pause = threading.Event()
        for event in _events(_COMMITS):
            commit = published.append([event])
            began = time.perf_counter()
            while runner.position < commit.last:
                pause.wait(0.0002)
            seconds.append(time.perf_counter() - began)
        runner.close(5)
    return seconds
