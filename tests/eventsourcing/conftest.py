"""What tests of the parts built on stores share: one set of stores, in memory and on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from shop.backends.memory import (
    MemoryEventBus,
    MemoryEventStore,
    MemoryModelStore,
    MemorySnapshotStore,
)
from shop.backends.sqlite import (
    Database,
    SqliteEventStore,
    SqliteModelStore,
    SqliteSnapshotStore,
)
from shop.eventsourcing import EventBus, EventStore, ModelStore, PublishingStore, SnapshotStore
from tests.eventsourcing.bank import registry


@dataclass(frozen=True)
class Stores:
    """Stores that belong together, and the bus on which ``events`` publishes."""

    events: EventStore
    models: ModelStore
    snapshots: SnapshotStore
    bus: EventBus


def in_memory(path: Path) -> Stores:
    bus = MemoryEventBus()
    store = PublishingStore(MemoryEventStore(registry()), bus)
    return Stores(store, MemoryModelStore(), MemorySnapshotStore(), bus)


def on_sqlite(path: Path) -> Stores:
    database = Database(path)
    bus = MemoryEventBus()
    store = PublishingStore(SqliteEventStore(database, registry(), owns_database=True), bus)
    return Stores(store, SqliteModelStore(database), SqliteSnapshotStore(database), bus)


BACKENDS = {"memory": in_memory, "sqlite": on_sqlite}

OpenSqlite = Callable[[], Stores]


@pytest.fixture(params=BACKENDS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Empty stores, of each kind in turn."""
    opened: Stores = BACKENDS[request.param](tmp_path / "bank.db")
    with opened.events:
        yield opened


@pytest.fixture
def memory_stores() -> Stores:
    """Empty stores in memory, for what does not depend on the kind of store."""
    return in_memory(Path())


@pytest.fixture
def open_sqlite(tmp_path: Path) -> Iterator[OpenSqlite]:
    """Opens the stores of one SQLite file, as each process that uses it does."""
    with ExitStack() as opened:

        def open_file() -> Stores:
            stores = on_sqlite(tmp_path / "shared.db")
            opened.enter_context(stores.events)
            return stores

        yield open_file
