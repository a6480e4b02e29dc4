"""The composition root: from settings to a shop. Stores and buses are made only here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry

from shop.config import Settings
from shop.domain import customer, email, order, payment_workflow, pricing, product
from shop.domain.payment_workflow import PaymentWorkflow
from shop.eventsourcing import (
    Aggregates,
    CommandBus,
    CommandWorker,
    EventBus,
    EventData,
    EventDecodeError,
    EventStore,
    ModelStore,
    ModelWatch,
    Module,
    Projection,
    ProjectionRunner,
    PublishingStore,
    Query,
    Registry,
    RemoteCommandBus,
    RequestBus,
    SnapshotStore,
    StoreFormatError,
    Workflow,
    WorkflowList,
    WorkflowRunner,
)
from shop.eventsourcing.events.decoding import EVOLVE
from shop.metrics import MeteredStore
from shop.opening import Opening
from shop.projections.customer_order_history import CustomerOrderHistory
from shop.projections.order_summary import OrderSummary
from shop.projections.product_catalog import ProductCatalog
from shop.projections.shop_stats import ShopStats
from shop.runtime import Duties, Service, Shop
from shop.urls import BUSES, STORES, DatabaseUrl, NatsUrl, checked_url, redacted, sqlite_path

if TYPE_CHECKING:
    from shop.backends.nats import DurableSubscription, NatsConnection

MODULES: tuple[Module, ...] = (
    product.MODULE,
    pricing.MODULE,
    customer.MODULE,
    email.MODULE,
    order.MODULE,
    payment_workflow.MODULE,
)

PROJECTIONS: tuple[Projection, ...] = (
    ProductCatalog(),
    ShopStats(),
    OrderSummary(),
    CustomerOrderHistory(),
    WorkflowList(),
)


def workflows(settings: Settings) -> Sequence[Workflow[Any]]:
    """All workflows of the shop."""
    return (PaymentWorkflow(deadline=settings.payment_deadline),)


class Backend(NamedTuple):
    """The stores that one URL leads to. They share connections; ``close`` lets go of all."""

    events: Callable[[Registry[EventData]], EventStore]
    models: ModelStore
    snapshots: SnapshotStore
    close: Callable[[], None]
    exists: Callable[[], bool] = lambda: True
    """Whether they are there: on a server, the first use of one makes what is missing."""


def event_registry() -> Registry[EventData]:
    """All events of the shop."""
    return Registry([event for module in MODULES for event in module.events])


def open_event_store(url: str, registry: Registry[EventData]) -> EventStore:
    """Open the event store of a URL, which is made where it does not exist.

    The caller closes it. Raises ``ValueError`` for a URL that settings refuse, and what the backend
    raises where the store cannot be opened: :class:`StoreFormatError`,
    :class:`StoreUnavailableError`.
    """
    return open_backend(url).events(registry)


def check_readable(store: EventStore, registry: Registry[EventData], url: str) -> None:
    """Raise :class:`StoreFormatError` where the store of a URL holds kinds of events that this
    program cannot read, naming them.

    Besides their names and versions, an event or two of each name are looked at.
    """
    kinds = store.info().kinds
    unreadable = registry.unreadable(kinds) or [*_misfits(store, {name for name, _ in kinds})]
    if unreadable:
        raise StoreFormatError(
            f"{redacted(url)} holds events that this program cannot read: "
            + "; ".join(unreadable)
            + ". Add the module that has them to MODULES in shop/bootstrap.py again; "
            + EVOLVE
        )


def _misfits(store: EventStore, names: Iterable[str]) -> Iterator[str]:
    """What is wrong with the oldest or the newest event of a name, where it cannot be decoded.

    If any does not fit its class it is likely to be one of these: the newest is of the latest
    version, and the oldest passes through all upcasters. Every store finds both by an index.
    """
    for name in sorted(names):
        try:
            for newest in (False, True):
                list(store.read(Query(names=[name], reverse=newest, limit=1)))
        except EventDecodeError as error:
            yield f"event {error.event_id} ({name}) at position {error.position}: {error.reason}"


def open_event_bus(url: str, registry: Registry[EventData] | None = None) -> EventBus:
    """Open the event bus of a URL. The caller closes it. Raises ``ValueError`` as above.

    Events of a ``registry``, by default the shop's, are understood when other processes publish
    them. Servers that cannot be reached are no reason to fail.
    """
    checked_url(url, BUSES)
    from shop.backends.memory import MemoryEventBus

    if url.startswith("memory:"):
        return MemoryEventBus()
    parts = NatsUrl.of(url)
    from shop.backends.nats import NatsEventBus

    connection = _nats_connection(parts, echo=False)
    return NatsEventBus(
        connection, MemoryEventBus(), registry or event_registry(), prefix=parts.prefix
    )


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

    See :class:`~shop.backends.nats.DurableSubscription`. Raises ``ValueError`` as above.
    """
    checked_url(url, ("nats+jetstream",))
    from shop.backends.nats import DurableSubscription

    parts = NatsUrl.of(url)
    assert parts.stream is not None, "the scheme was checked"
    with (
        _nats_connection(parts, echo=True) as connection,
        DurableSubscription(
            connection,
            registry,
            parts.stream.name,
            name,
            *names,
            prefix=parts.prefix,
            after=after,
            since=since,
            store=store,
        ) as subscription,
    ):
        yield subscription


def bootstrap(settings: Settings, *, threads: int = 8) -> Shop:
    """Put the shop together. Entering it starts its threads, leaving it stops and closes all.

    ``threads`` is how many carry out the commands of other processes, if a bus brings any.

    Raises what :func:`open_event_store` raises, and :class:`StoreFormatError` where the store
    holds events that this program cannot read, naming them. A database server that cannot be
    reached is no reason to fail: the shop answers that it is not ready, and begins when it can.
    """
    settings.check_role()
    with ExitStack() as opened:  # closes, last first, what was opened before something failed
        registry = event_registry()
        backend = open_backend(settings.event_store)
        opened.callback(backend.close)
        model_backend = backend
        if settings.model_store not in {"", settings.event_store}:
            model_backend = open_backend(settings.model_store)
            opened.callback(model_backend.close)
        store = backend.events(registry)
        models = model_backend.models

        def open_stores() -> None:
            check_readable(store, registry, settings.event_store)
            # So that reads find them, even before the projections' threads have begun.
            models.prepare([c for p in PROJECTIONS for c in p.collections])

        opening = Opening(open_stores)
        bus = open_event_bus(settings.event_bus)
        opened.callback(bus.close)
        metrics = CollectorRegistry()
        published = PublishingStore(MeteredStore(store, metrics), bus)
        parts = _Parts(
            published,
            models,
            bus,
            Aggregates(published, model_backend.snapshots),
            _requests(settings.event_bus, opened),
        )
        if settings.role == "web":
            duties = _web_duties(settings, parts)
        else:
            services = _services(settings.event_bus, store, bus, opened)
            duties = _worker_duties(settings, parts, services, threads)
        return Shop(
            duties,
            store=published,
            models=models,
            bus=bus,
            aggregates=parts.aggregates,
            payment_deadline=settings.payment_deadline,
            metrics=metrics,
            opening=opening,
            on_close=[opened.pop_all().close],
        )


class _Parts(NamedTuple):
    """What a process of any role works with."""

    store: EventStore
    models: ModelStore
    bus: EventBus
    aggregates: Aggregates
    requests: RequestBus | None
    """``None`` where there are no other processes."""


def _web_duties(settings: Settings, parts: _Parts) -> Duties:
    """Everything is left to workers, and watched."""
    assert parts.requests is not None, "the role was checked"
    return Duties(
        commands=RemoteCommandBus(parts.requests, parts.store, MODULES),
        watched=[ModelWatch(p, parts.store, parts.models, parts.bus) for p in PROJECTIONS],
        watched_workflows=[workflow.name for workflow in workflows(settings)],
    )


def _worker_duties(
    settings: Settings, parts: _Parts, services: Sequence[Service], threads: int
) -> Duties:
    """What a process does that carries out commands, with ``threads`` for those of others."""
    store, models, bus, aggregates, requests = parts
    commands = CommandBus(store, aggregates, MODULES)
    projections = {p.name: ProjectionRunner(p, store, models, bus) for p in PROJECTIONS}
    return Duties(
        commands=commands,
        projections=list(projections.values()),
        workflows=[
            WorkflowRunner(
                workflow,
                events=store,
                models=models,
                bus=bus,
                aggregates=aggregates,
                commands=commands,
                listing=projections[WorkflowList.name],
            )
            for workflow in workflows(settings)
        ],
        worker=None
        if requests is None
        else CommandWorker(commands, store, requests, threads=threads),
        services=services,
    )


def _requests(url: str, opened: ExitStack) -> RequestBus | None:
    """What carries commands to other processes; ``None`` in memory."""
    if url == "memory://":
        return None
    from shop.backends.nats import NatsRequests

    at = NatsUrl.of(url)
    connection = _nats_connection(at, echo=True)
    opened.callback(connection.close, 0.5)  # nothing is left to be sent, as there may be for a bus
    return NatsRequests(connection, prefix=f"{at.prefix}.")


def open_backend(url: str) -> Backend:
    """Open the stores of a URL. Raises as :func:`open_event_store`; the caller closes them."""
    scheme = checked_url(url, STORES).partition(":")[0]
    return _OPENERS[scheme](url)


def _services(url: str, store: EventStore, bus: EventBus, opened: ExitStack) -> list[Service]:
    """What a bus needs running beside it. ``opened`` gets what is to be closed in the end."""
    if url == "memory://":
        return []
    parts = NatsUrl.of(url)
    if parts.stream is None:
        return []
    from shop.backends.nats import Relay

    connection = _nats_connection(parts, echo=True)
    opened.callback(connection.close, 0.5)
    return [
        Relay(
            connection,
            store,
            bus,
            parts.stream,
            href="/events/{id}",
            prefix=parts.prefix,
            timeout=parts.timeout,
        )
    ]


def _nats_connection(url: NatsUrl, *, echo: bool) -> NatsConnection:
    from shop.backends.nats import NatsConnection

    return NatsConnection(url.access, echo=echo, timeout=url.timeout)


def _memory(url: str) -> Backend:
    from shop.backends.memory import MemoryEventStore, MemoryModelStore, MemorySnapshotStore

    return Backend(MemoryEventStore, MemoryModelStore(), MemorySnapshotStore(), lambda: None)


def _sqlite(url: str) -> Backend:
    from shop.backends import sqlite

    database = sqlite.Database(sqlite_path(url))
    return Backend(
        lambda registry: sqlite.SqliteEventStore(database, registry, owns_database=True),
        sqlite.SqliteModelStore(database),
        sqlite.SqliteSnapshotStore(database),
        database.close,
    )


def _postgresql(url: str) -> Backend:
    from shop.backends import postgres

    parts = DatabaseUrl.of(url)
    database = postgres.Database(
        parts.driver,
        redacted(parts.driver),
        schema=parts.schema,
        prefix=parts.prefix,
        pool_size=parts.pool_size,
        timeout=parts.timeout,
    )
    return Backend(
        lambda registry: postgres.PostgresEventStore(database, registry, owns_database=True),
        postgres.PostgresModelStore(database),
        postgres.PostgresSnapshotStore(database),
        database.close,
        database.exists,
    )


def _mongodb(url: str) -> Backend:
    from shop.backends import mongodb

    parts = DatabaseUrl.of(url)
    database = mongodb.Database(
        parts.driver,
        parts.database,
        prefix=parts.prefix,
        pool_size=parts.pool_size,
        timeout=parts.timeout,
    )
    return Backend(
        lambda registry: mongodb.MongoEventStore(database, registry, owns_database=True),
        mongodb.MongoModelStore(database),
        mongodb.MongoSnapshotStore(database),
        database.close,
        database.exists,
    )


_OPENERS: Mapping[str, Callable[[str], Backend]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mongodb": _mongodb,
}
