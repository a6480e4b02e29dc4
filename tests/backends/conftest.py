"""SQLite files, and programs that use them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from shop.backends.sqlite import Database, SqliteEventStore
from tests.notebook import registry
from tests.real.databases import DATABASE_SERVERS, DatabaseServer
from tests.real.mongodb import MongoServer
from tests.real.postgres import PostgresServer

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


@pytest.fixture(params=DATABASE_SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server of its own for a test, of each kind in turn."""
    with DATABASE_SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def standalone() -> Iterator[MongoServer]:
    with MongoServer(replica_set=False) as server:
        yield server


@pytest.fixture
def replica_set() -> Iterator[MongoServer]:
    with MongoServer(replica_set=True) as server:
        yield server


class Program:
    """Another process, running one of the functions of a module of programs."""

    def __init__(self, programs: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.backends.{programs}", *map(str, arguments)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tell(self) -> None:
        """Let it go on from where it waits to be told."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> int:
        """Its exit status, once it has ended. What it complains of fails the test."""
        _, errors = self.process.communicate(timeout=60)
        assert not errors
        return self.process.returncode


Start = Callable[..., Program]


@contextmanager
def programs(module: str) -> Iterator[Start]:
    """Starts programs of a module with their arguments; none outlives the test."""
    started: list[Program] = []

    def start(*arguments: object) -> Program:
        started.append(Program(module, *arguments))
        return started[-1]

    yield start
    for program in started:
        if program.running():
            program.process.kill()
        program.process.communicate()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of ``sqlite_programs``."""
    with programs("sqlite_programs") as start:
        yield start


@pytest.fixture
def start_on_store() -> Iterator[Start]:
    """Starts a program of ``store_programs``, which takes the URL of any store."""
    with programs("store_programs") as start:
        yield start
