"""What the URL of a bus leads to. NATS is imported only when a URL needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from shop.eventsourcing import EventBus, EventData, EventStore, Registry, RequestBus
from shop.runtime import Service
from shop.urls import BUSES, NatsUrl, checked_url

if TYPE_CHECKING:
    from shop.backends.nats import DurableSubscription, NatsConnection


class Messaging(NamedTuple):
    """The event bus that one URL leads to, and what its servers can do besides.

    Connections are made when they are first asked for; closing the bus closes all.
    """

    events: EventBus
    requests: Callable[[], RequestBus | None]
    """What carries commands to other processes; ``None`` in memory."""
    services: Callable[[EventStore], Sequence[Service]]
    """What the bus needs running beside it, with the store as its source."""


def open_messaging(url: str, registry: Registry[EventData]) -> Messaging:
    """Open the bus of a URL. The caller closes ``events``.

    Events of the ``registry`` are understood when other processes publish them. Raises
    ``ValueError`` for a URL that settings refuse. Servers that cannot be reached are no reason to
    fail.
    """
    checked_url(url, BUSES)
    return _memory() if url.startswith("memory:") else _nats(NatsUrl.of(url), registry)


@contextmanager
def open_durable_subscription(
    url: str,
    registry: Registry[EventData],
    name: str,
    *names: str,
    after: int = 0,
    since: datetime | None = None,
    store: EventStore | None = None,
) -> Iterator[DurableSubscription]:
    """A durable subscription to the stream of a ``nats+jetstream://`` URL, for a ``with`` block.

    See :class:`~shop.backends.nats.DurableSubscription`. Raises ``ValueError`` as
    :func:`open_messaging`.
    """
    checked_url(url, ("nats+jetstream",))
    from shop.backends.nats import DurableSubscription

    at = NatsUrl.of(url)
    assert at.stream is not None, "the scheme was checked"
    with (
        _connect(at, f"the subscription {name}", echo=True) as connection,
        DurableSubscription(
            connection,
            registry,
            at.stream.name,
            name,
            *names,
            prefix=at.prefix,
            after=after,
            since=since,
            store=store,
        ) as subscription,
    ):
        yield subscription


def _memory() -> Messaging:
    from shop.backends.memory import MemoryEventBus

    return Messaging(MemoryEventBus(), requests=lambda: None, services=lambda store: ())


def _nats(at: NatsUrl, registry: Registry[EventData]) -> Messaging:
    from shop.backends.memory import MemoryEventBus
    from shop.backends.nats import NatsEventBus, NatsRequests, Relay

    connection = _connect(at, "events", echo=False)
    bus = NatsEventBus(connection, MemoryEventBus(), registry, prefix=at.prefix)

    def requests() -> RequestBus:
        return NatsRequests(connection.another("commands", echo=True), prefix=f"{at.prefix}.")

    def services(store: EventStore) -> Sequence[Service]:
        if at.stream is None:
            return ()
        relay = Relay(
            connection.another("the relay", echo=True),
            store,
            bus,
            at.stream,
            href="/events/{id}",
            prefix=at.prefix,
            timeout=at.timeout,
        )
        return (relay,)

    return Messaging(bus, requests, services)


def _connect(at: NatsUrl, purpose: str, *, echo: bool) -> NatsConnection:
    from shop.backends.nats import NatsConnection

    return NatsConnection(at.access, purpose=purpose, echo=echo, timeout=at.timeout)
