"""The composition root: from settings to a shop. The only place that names backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from shop.config import Settings
from shop.domain import customer, email, order, payment_workflow, pricing, product
from shop.domain.payment_workflow import PaymentWorkflow
from shop.eventsourcing import (
    Aggregates,
    CommandBus,
    EventBus,
    EventData,
    EventStore,
    ModelStore,
    Module,
    Projection,
    ProjectionRunner,
    PublishingStore,
    Registry,
    SnapshotStore,
    StoreFormatError,
    Workflow,
    WorkflowList,
    WorkflowRunner,
)
from shop.metrics import MeteredStore
from shop.opening import Opening
from shop.projections.customer_order_history import CustomerOrderHistory
from shop.projections.order_summary import OrderSummary
from shop.projections.product_catalog import ProductCatalog
from shop.projections.shop_stats import ShopStats
from shop.runtime import Shop
from shop.urls import BUSES, STORES, checked_url, redacted, sqlite_path

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


def open_event_bus(url: str) -> EventBus:
    """Open the event bus of a URL. The caller closes it. Raises ``ValueError`` as above."""
    checked_url(url, BUSES)
    from shop.backends.memory import MemoryEventBus

    return MemoryEventBus()


def bootstrap(settings: Settings) -> Shop:
    """Put the shop together. Entering it starts its threads, leaving it stops and closes all.

    Raises what :func:`open_event_store` raises, and :class:`StoreFormatError` where the store
    holds events that this program cannot read, naming them. A database server that cannot be
    reached is no reason to fail: the shop answers that it is not ready, and begins when it can.
    """
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
            unreadable = registry.unreadable(store.info().kinds)
            if unreadable:
                raise StoreFormatError(
                    f"{redacted(settings.event_store)} holds events that this program cannot read: "
                    + "; ".join(unreadable)
                    + ". Add the module that has them to MODULES in shop/bootstrap.py again, or an"
                    " upcaster to the event that has changed"
                )
            # So that reads find them, even before the projections' threads have begun.
            models.prepare([c for p in PROJECTIONS for c in p.collections])

        opening = Opening(open_stores)
        bus = open_event_bus(settings.event_bus)
        opened.callback(bus.close)
        metrics = CollectorRegistry()
        published = PublishingStore(MeteredStore(store, metrics), bus)
        aggregates = Aggregates(published, model_backend.snapshots)
        commands = CommandBus(published, aggregates, MODULES)
        projections = {p.name: ProjectionRunner(p, published, models, bus) for p in PROJECTIONS}
        return Shop(
            store=published,
            models=models,
            bus=bus,
            commands=commands,
            aggregates=aggregates,
            projections=list(projections.values()),
            workflows=[
                WorkflowRunner(
                    workflow,
                    events=published,
                    models=models,
                    bus=bus,
                    aggregates=aggregates,
                    commands=commands,
                    listing=projections[WorkflowList.name],
                )
                for workflow in workflows(settings)
            ],
            payment_deadline=settings.payment_deadline,
            metrics=metrics,
            opening=opening,
            on_close=[opened.pop_all().close],
        )


def open_backend(url: str) -> Backend:
    """Open the stores of a URL. Raises as :func:`open_event_store`; the caller closes them."""
    scheme = checked_url(url, STORES).partition(":")[0]
    return _OPENERS[scheme](url)


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


_OPENERS: Mapping[str, Callable[[str], Backend]] = {
    "memory": _memory,
    "sqlite": _sqlite,
}
