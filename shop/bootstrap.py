"""The composition root: from settings to a shop, which is put together only here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from shop import __version__
from shop.application import Application, application_of
from shop.buses import open_messaging
from shop.config import Settings
from shop.domain import customer, email, order, payment_workflow, pricing, product
from shop.domain.payment_workflow import PaymentWorkflow
from shop.eventsourcing import (
    Aggregates,
    CommandBus,
    CommandWorker,
    EventBus,
    EventData,
    EventStore,
    ModelStore,
    ModelWatch,
    Module,
    Projection,
    ProjectionRunner,
    PublishingStore,
    Registry,
    RemoteCommandBus,
    RequestBus,
    WorkflowList,
    WorkflowRunner,
)
from shop.metrics import MeteredStore
from shop.opening import Opening
from shop.projections.customer_order_history import CustomerOrderHistory
from shop.projections.order_summary import OrderSummary
from shop.projections.product_catalog import ProductCatalog
from shop.projections.shop_stats import ShopStats
from shop.runtime import Duties, Service, Shop
from shop.stores import check_readable, open_backend, open_event_store

__all__ = [
    "MODULES",
    "PROJECTIONS",
    "Application",
    "bootstrap",
    "event_registry",
    "open_event_bus",
    "open_event_store",
    "shop_application",
]


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


def shop_application(settings: Settings) -> Application:
    """The shop."""
    from shop.reads import reads  # who only opens a store needs no Flask

    return Application(
        MODULES,
        PROJECTIONS,
        workflows=[PaymentWorkflow(deadline=settings.payment_deadline)],
        reads=reads(settings.payment_deadline),
        title="Shop",
        version=__version__,
    )


def event_registry() -> Registry[EventData]:
    """All events of the shop."""
    return Application(MODULES).registry


def open_event_bus(url: str, registry: Registry[EventData] | None = None) -> EventBus:
    """Open the event bus of a URL. The caller closes it. Raises ``ValueError`` for a bad URL.

    Events of a ``registry``, by default the shop's, are understood when other processes publish
    them. Servers that cannot be reached are no reason to fail.
    """
    return open_messaging(url, registry or event_registry()).events


def bootstrap(
    settings: Settings, *, application: Application | None = None, threads: int = 8
) -> Shop:
    """Put the shop together. Entering it starts its threads, leaving it stops and closes all.

    By default the application is the one that the settings name. ``threads`` is how many carry out
    the commands of other processes, if a bus brings any.

    Raises what :func:`open_event_store` and :func:`application_of` raise, and
    :class:`StoreFormatError` where the store holds events that this program cannot read, naming
    them. A database server that cannot be reached is no reason to fail: the shop answers that it is
    not ready, and begins when it can.
    """
    settings.check_role()
    application = application or application_of(settings)
    with ExitStack() as opened:  # closes, last first, what was opened before something failed
        registry = application.registry
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
            # Reads may come before the projections' threads have made their collections.
            models.prepare([c for p in application.projections for c in p.collections])

        opening = Opening(open_stores)
        messaging = open_messaging(settings.event_bus, registry)
        bus = messaging.events
        opened.callback(bus.close)
        metrics = CollectorRegistry()
        published = PublishingStore(MeteredStore(store, metrics), bus)
        aggregates = Aggregates(published, model_backend.snapshots)
        parts = _Parts(application, published, models, bus, aggregates, messaging.requests())
        if settings.role == "web":
            duties = _web_duties(parts)
        else:
            duties = _worker_duties(parts, messaging.services(store), threads)
        return Shop(
            duties,
            store=published,
            models=models,
            bus=bus,
            aggregates=aggregates,
            application=application,
            metrics=metrics,
            opening=opening,
            on_close=[opened.pop_all().close],
        )


class _Parts(NamedTuple):
    """What a process of any role works with."""

    application: Application
    store: EventStore
    models: ModelStore
    bus: EventBus
    aggregates: Aggregates
    requests: RequestBus | None
    """``None`` where there are no other processes."""


def _web_duties(parts: _Parts) -> Duties:
    """The duties of a process that serves HTTP alone: it watches what workers do."""
    assert parts.requests is not None, "the role was checked"
    application = parts.application
    return Duties(
        commands=RemoteCommandBus(parts.requests, parts.store, application.modules),
        watched=[
            ModelWatch(projection, parts.store, parts.models, parts.bus)
            for projection in application.projections
        ],
    )


def _worker_duties(parts: _Parts, services: Sequence[Service], threads: int) -> Duties:
    """The duties of a process that carries out commands, with ``threads`` for those of others."""
    application, store, models, bus, aggregates, requests = parts
    commands = CommandBus(store, aggregates, application.modules)
    projections = {
        projection.name: ProjectionRunner(projection, store, models, bus, aggregates=aggregates)
        for projection in application.projections
    }
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
            for workflow in application.workflows
        ],
        worker=None
        if requests is None
        else CommandWorker(commands, store, requests, threads=threads),
        services=services,
    )
