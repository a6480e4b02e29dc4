"""The raw driver: what any event store on SQLite must at least do.

One table with the constraints that no event store can go without: a position as primary key, each
event id once, each version of an aggregate once. Nothing is checked, guarded, published or decoded,
and the rows are made before the clock starts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from shop.eventsourcing import Event, EventData

_TABLE = """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        time INTEGER NOT NULL,
        aggregate TEXT NOT NULL,
        aggregate_id BLOB NOT NULL,
        version INTEGER NOT NULL,
        data TEXT NOT NULL,
        metadata TEXT NOT NULL,
        UNIQUE (aggregate_id, aggregate, version)
    )
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection set up as the shop's: write-ahead log, on disk before a commit returns."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -16384")
    return connection


class RawLog:
    """A table of events."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._connection.execute(_TABLE)

    def append(self, row: tuple[Any, ...]) -> None:
        """Insert one event, in a transaction of its own."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def row(event: Event[EventData]) -> tuple[Any, ...]:
    """The columns of an event but for its position."""
    return (
        event.id.bytes,
        event.name,
        int(event.time.timestamp() * 1_000_000),
        event.aggregate.name,
        event.aggregate.id.bytes,
        event.version,
        msgspec.json.encode(event.data).decode(),
        msgspec.json.encode(event.metadata).decode(),
    )


def read(path: Path, decoders: dict[str, msgspec.json.Decoder[EventData]]) -> Iterator[EventData]:
    """The data of all events in a file of the shop's, decoded, and nothing else of them."""
    connection = connect(path)
    for name, data in connection.execute("SELECT name, data FROM events ORDER BY position"):
        yield decoders[name].decode(data)
    connection.close()
