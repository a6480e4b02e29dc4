"""Servers that a test may stop, and programs that use their databases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real.databases import DATABASE_SERVERS, DatabaseServer
from tests.real.mongodb import MongoServer
from tests.real.postgres import PostgresServer


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
def start_on_store() -> Iterator[Start]:
    """Starts a program of ``store_programs``, which takes the URL of any store."""
    with programs("store_programs") as start:
        yield start
