"""What the URL of a store leads to. Each driver is imported only when a URL needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from shop.eventsourcing import (
    EventData,
    EventDecodeError,
    EventStore,
    ModelStore,
    Query,
    Registry,
    SnapshotStore,
    StoreFormatError,
)
from shop.eventsourcing.events.decoding import EVOLVE
from shop.urls import STORES, DatabaseUrl, checked_url, redacted, sqlite_path


class Backend(NamedTuple):
    """The stores that one URL leads to. They share connections; ``close`` lets go of all."""

    events: Callable[[Registry[EventData]], EventStore]
    models: ModelStore
    snapshots: SnapshotStore
    close: Callable[[], None]
    exists: Callable[[], bool] = lambda: True
    """Whether there is a store on the server already: any other use of these would make it."""


def open_backend(url: str) -> Backend:
    """Open the stores of a URL. The caller closes them. Raises as :func:`open_event_store`."""
    scheme = checked_url(url, STORES).partition(":")[0]
    return _OPENERS[scheme](url)


def open_event_store(url: str, registry: Registry[EventData]) -> EventStore:
    """Open the event store of a URL, which is made where it does not exist.

    The caller closes it. Raises ``ValueError`` for a URL that settings refuse, and what the backend
    raises where the store cannot be opened: :class:`StoreFormatError`,
    :class:`StoreUnavailableError`.
    """
    return open_backend(url).events(registry)


def check_readable(store: EventStore, registry: Registry[EventData], url: str) -> None:
    """Raise :class:`StoreFormatError` where a store holds events that this program cannot read.

    The error names them and ``url``, that of the store. The names and schema versions of all events
    are checked, and the oldest and the newest event of each name are decoded.
    """
    kinds = store.info().kinds
    unreadable = registry.unreadable(kinds) or [*_misfits(store, {name for name, _ in kinds})]
    if unreadable:
        raise StoreFormatError(
            f"{redacted(url)} holds events that this program cannot read: "
            + "; ".join(unreadable)
            + ". Add the module that has them to the application again (the shop's are MODULES in"
            " shop/bootstrap.py), or name another application by SHOP_APPLICATION; " + EVOLVE
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
