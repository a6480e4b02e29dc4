"""Durable subscriptions: at least once, from where they acknowledged, or from where one likes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client

from shop.backends.memory import MemoryEventStore
from shop.backends.nats import DurableSubscription, NatsConnection
from shop.eventsourcing import Event, Query
from tests.backends.nats.test_relay import Node, as_anybody
from tests.conftest import Eventually
from tests.notebook import Noted, counted, note, noted, registry
from tests.real.nats import NatsServer, malformed, send


@pytest.fixture
def name() -> str:
    return f"t{uuid4().hex}"


@pytest.fixture
def node(nats: str, name: str) -> Iterator[Node]:
    with closing(Node(nats, MemoryEventStore(registry()), name)) as node:
        node.relay.start()
        yield node


def subscribe(node: Node, name: str, *names: str, **options: Any) -> DurableSubscription:
    return DurableSubscription(
        node.connection, registry(), name, "reader", *names, prefix=name, **options
    )


def positions(subscription: DurableSubscription, count: int, acknowledged: int) -> list[int]:
    """Take so many events and acknowledge the first of them; their positions."""
    taken: list[int] = []
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while len(taken) < count and datetime.now(UTC) < deadline:
        for delivery in subscription.take(0.5, limit=count - len(taken)):
            taken.append(delivery.event.position)
            if len(taken) <= acknowledged:
                subscription.acknowledge([delivery])
    return taken


def subscriptions(connection: NatsConnection) -> int:
    """How many nats-py has."""

    async def count(client: Client) -> int:
        return len(client._subs)

    return connection.run(count, timeout=5)


def test_it_goes_on_after_what_it_acknowledged(node: Node, name: str) -> None:
    node.append(10)
    with subscribe(node, name, ack_wait=0.5) as subscription:
        assert positions(subscription, 6, acknowledged=4) == [1, 2, 3, 4, 5, 6]
    with subscribe(node, name, ack_wait=0.5) as subscription:
        assert sorted(positions(subscription, 6, acknowledged=6)) == [5, 6, 7, 8, 9, 10]
        assert subscription.take(0.7) == []


def test_it_begins_where_one_likes(node: Node, name: str) -> None:
    node.append(5)
    with subscribe(node, name, after=3) as subscription:
        assert positions(subscription, 2, acknowledged=2) == [4, 5]
        subscription.forget()
    with subscribe(node, name) as subscription:
        assert positions(subscription, 5, acknowledged=5) == [1, 2, 3, 4, 5]


def test_it_begins_at_a_time(node: Node, name: str) -> None:
    now = datetime.now(UTC)
    for hours in (3, 2, 1, 0):
        node.store.append(
            [Event.new(note(), version=1, data=Noted("x"), time=now - timedelta(hours=hours))]
        )
    with subscribe(node, name, since=now - timedelta(hours=1)) as subscription:
        assert positions(subscription, 2, acknowledged=2) == [3, 4]


def test_it_takes_names_and_patterns(node: Node, name: str) -> None:
    ref = note()
    node.store.append([noted(ref, 1), counted(ref, 2), noted(ref, 3)])
    with subscribe(node, name, "*.counted") as subscription:
        assert positions(subscription, 1, acknowledged=1) == [2]
        assert subscription.take(0.3) == []


def test_other_names_count_for_what_comes_after_what_it_acknowledged(node: Node, name: str) -> None:
    node.store.append([noted(note(), 1), counted(note(), 1)])
    with subscribe(node, name, "*.noted") as subscription:
        assert positions(subscription, 1, acknowledged=1) == [1]
    node.store.append([counted(note(), 1), noted(note(), 1)])
    with subscribe(node, name, "*.noted", "*.counted", ack_wait=0.5) as subscription:
        assert positions(subscription, 3, acknowledged=2) == [2, 3, 4]
        assert positions(subscription, 1, acknowledged=1) == [4], "after half a second"


def test_a_missing_stream_and_a_deleted_consumer_are_told_and_made_up_for(
    node: Node, name: str, nats: str, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    with subscribe(node, "missing") as subscription:
        assert subscription.take(0.5) == []
    assert caplog.text.count("stream not found") == 1
    node.append(2)
    with subscribe(node, name) as subscription:
        assert positions(subscription, 2, acknowledged=2) == [1, 2]
        before = subscriptions(node.connection)
        for _ in range(3):
            as_anybody(nats, lambda js: js.delete_consumer(name, "reader"))
            assert positions(subscription, 2, acknowledged=2) == [1, 2]
        eventually(lambda: subscriptions(node.connection) == before)


def test_an_event_without_its_data_is_completed_from_the_store(node: Node, name: str) -> None:
    node.store.append([noted(note(), 1, "x" * 2_000_000)])
    with subscribe(node, name, store=node.store) as subscription:
        deliveries = subscription.take(10)
        assert [d.event for d in deliveries] == list(node.store.read(Query()))


def test_it_passes_over_what_others_put_into_the_stream(node: Node, nats: str, name: str) -> None:
    node.append(1)
    with subscribe(node, name, ack_wait=0.5) as subscription:
        assert positions(subscription, 1, acknowledged=1) == [1]
        for message in malformed(f"{name}.events.notebook.noted"):
            send(nats, message)
        node.append(2)
        assert positions(subscription, 2, acknowledged=2) == [2, 3]
        assert subscription.take(0.7) == []
    assert node.connection.connects == 1


def test_it_outlives_a_killed_and_emptied_server(name: str, eventually: Eventually) -> None:
    with ExitStack() as opened:
        server = opened.enter_context(NatsServer())
        node = opened.enter_context(
            closing(Node(server.address, MemoryEventStore(registry()), name))
        )
        node.relay.start()
        node.append(3)
        subscription = opened.enter_context(subscribe(node, name))
        assert positions(subscription, 3, acknowledged=3) == [1, 2, 3]
        server.kill()
        shutil.rmtree(server.store)
        server.start()
        node.append(1)
        seen: set[int] = set()

        def caught_up() -> bool:
            deliveries = subscription.take(0.5)
            seen.update(delivery.event.position for delivery in deliveries)
            subscription.acknowledge(deliveries)
            return 4 in seen

        eventually(caught_up)
