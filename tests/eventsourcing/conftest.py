"""What tests of the parts built on stores share: one set of stores, of each kind in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from shop.backends.memory import MemoryEventBus
from shop.eventsourcing import (
    Aggregates,
    CommandBus,
    EventBus,
    EventStore,
    ModelStore,
    Module,
    Projection,
    ProjectionRunner,
    PublishingStore,
    SnapshotStore,
)
from shop.stores import Backend, open_backend
from tests.eventsourcing.bank import BANK, Balances, registry
from tests.stores import DURABLE, KINDS, storages


@dataclass(frozen=True)
class Stores:
    """Stores that belong together, and the bus on which ``events`` publishes."""

    events: EventStore
    models: ModelStore
    snapshots: SnapshotStore
    bus: EventBus

    @classmethod
    def of(cls, backend: Backend) -> Stores:
        bus = MemoryEventBus()
        events = PublishingStore(backend.events(registry()), bus)
        return cls(events, backend.models, backend.snapshots, bus)

    @classmethod
    def at(cls, url: str) -> Stores:
        """The stores of a URL, which closing ``events`` closes."""
        return cls.of(open_backend(url))


OpenShared = Callable[[], Stores]


def command_bus(stores: Stores, *modules: Module) -> CommandBus:
    """Carries out the commands of modules, by default the bank's."""
    return CommandBus(stores.events, Aggregates(stores.events), modules or (BANK,))


@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Empty stores, of each kind in turn."""
    with storages(KINDS[request.param](request)) as new:
        yield Stores.of(new().backend())


@pytest.fixture
def memory_stores() -> Stores:
    """Empty stores in memory, for what does not depend on the kind of store."""
    return Stores.at("memory://")


@pytest.fixture(params=DURABLE)
def durable_url(request: pytest.FixtureRequest) -> str:
    """The URL of empty stores, of each kind in turn that outlives its process."""
    return DURABLE[request.param](request)()


@pytest.fixture
def open_shared(durable_url: str) -> Iterator[OpenShared]:
    """Opens the same stores again and again, as each process that uses them does."""
    with storages(lambda: durable_url) as new:
        yield lambda: Stores.of(new().backend())


Run = Callable[..., ProjectionRunner]


@pytest.fixture
def run(stores: Stores) -> Iterator[Run]:
    """Starts a projection on the stores; it is closed at the end of the test at the latest."""
    with ExitStack() as opened:

        def start(projection: Projection | None = None, **options: Any) -> ProjectionRunner:
            runner = ProjectionRunner(
                projection or Balances(),
                options.pop("events", stores.events),
                options.pop("models", stores.models),
                options.pop("bus", stores.bus),
                **options,
            )
            opened.callback(runner.close, 5)
            runner.start()
            return runner

        yield start
