"""SQLite files, and programs that use them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from shop.backends.sqlite import Database, SqliteEventStore
from tests.backends.conftest import Start, programs
from tests.notebook import registry

OpenStore = Callable[..., SqliteEventStore]


@contextmanager
def behind_its_back(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of some other program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database file may be made."""
    return tmp_path / "events.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(path, timeout=0.3)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> SqliteEventStore:
    return SqliteEventStore(database, registry())


@pytest.fixture
def open_store() -> Iterator[OpenStore]:
    """Opens a store on a file, closed at the end."""
    with ExitStack() as opened:

        def open(path: Path, *, timeout: float = 5.0) -> SqliteEventStore:
            database = Database(path, timeout=timeout)
            return opened.enter_context(SqliteEventStore(database, registry(), owns_database=True))

        yield open


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of ``programs``."""
    with programs("sqlite.programs") as start:
        yield start
