"""Every event store through one fixture.

A store is added in one place: a function below that makes room for empty stores, and its entry in
``DURABLE``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from shop.backends.memory import MemoryEventStore
from shop.backends.sqlite import Database, SqliteEventStore
from shop.eventsourcing import EventData, EventStore, Registry
from tests.notebook import registry as notebook

Connect = Callable[[Registry[EventData]], EventStore]
"""Opens a store on one set of data; opened again, it finds what was stored before."""


class Storage:
    """The data of one event store, empty at first."""

    def __init__(self, connect: Connect, opened: ExitStack) -> None:
        self._connect = connect
        self._opened = opened

    def open(self, registry: Registry[EventData] | None = None) -> EventStore:
        """A store on the data, closed at the end of the test at the latest."""
        return self._opened.enter_context(self._connect(registry or notebook()))


NewStorage = Callable[[], Storage]
Room = Callable[[], Connect]
"""Where a test may have as many empty stores as it likes."""


def memory(request: pytest.FixtureRequest) -> Room:
    return lambda: MemoryEventStore


def sqlite(request: pytest.FixtureRequest) -> Room:
    directory: Path = request.getfixturevalue("tmp_path")
    numbers = count(1)

    def new() -> Connect:
        path = directory / f"{next(numbers)}.db"
        return lambda registry: SqliteEventStore(Database(path), registry, owns_database=True)

    return new


DURABLE = {"sqlite": sqlite}
STORES = {"memory": memory, **DURABLE}


@pytest.fixture(params=STORES)
def new_storage(request: pytest.FixtureRequest) -> Iterator[NewStorage]:
    """Makes room for a new, empty store, of each kind in turn."""
    room: Room = STORES[request.param](request)
    with ExitStack() as opened:
        yield lambda: Storage(room(), opened)


@pytest.fixture
def store(new_storage: NewStorage) -> EventStore:
    """An empty event store, of each kind in turn."""
    return new_storage().open()


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """The data of an empty event store of each kind that outlives its process."""
    room: Room = DURABLE[request.param](request)
    with ExitStack() as opened:
        yield Storage(room(), opened)
