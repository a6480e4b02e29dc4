"""What all tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.real.mongodb import MongoServer
from tests.real.nats import NatsServer
from tests.real.postgres import PostgresServer
from tests.stores import KINDS, NewUrl
from tests.waiting import await_true

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds; the test fails when it does not within ten seconds."""
    return partial(await_true, within=10)


@pytest.fixture
def restless() -> Iterator[None]:
    """Has threads take turns as often as can be."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Has SIGINT raise also where the tests were started in the background, which ignores it.

    And not in the garbage collection, whose callbacks would swallow it.
    """
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    yield
    gc.enable()
    signal.signal(signal.SIGINT, usual)


@pytest.fixture(params=["memory", "sqlite"])
def local_url(request: pytest.FixtureRequest) -> str:
    """The URL of empty stores, of each kind in turn that needs no server."""
    return KINDS[request.param](request)()


@pytest.fixture(scope="session")
def postgres() -> Iterator[NewUrl]:
    """A PostgreSQL server for all tests, each in schemas of its own.

    ``fsync=off`` spares what only a power cut would show; the process may die all the same.
    """
    given = os.environ.get("SHOP_TEST_POSTGRES_URL")
    if given:
        yield _named_anew(given, "schema")
        return
    with PostgresServer("fsync=off", "max_connections=300") as server:
        yield _named_anew(server.url("tests"), "schema")


@pytest.fixture(scope="session")
def mongodb() -> Iterator[NewUrl]:
    """A standalone mongod for all tests, each under names of its own."""
    given = os.environ.get("SHOP_TEST_MONGODB_URL")
    if given:
        yield _named_anew(given, "prefix")
        return
    with MongoServer(replica_set=False) as server:
        yield _named_anew(server.url("tests"), "prefix")


@pytest.fixture(scope="session")
def mongodb_replica_set() -> Iterator[NewUrl]:
    """A mongod that is a replica set of one node, for all tests, each under names of its own."""
    with MongoServer(replica_set=True) as server:
        yield _named_anew(server.url("tests"), "prefix")


@pytest.fixture(scope="session")
def nats() -> Iterator[str]:
    """Address of a nats-server for all tests, each under a subject prefix of its own."""
    given = os.environ.get("SHOP_TEST_NATS_URL")
    if given:
        yield given.rpartition("://")[2]
        return
    with NatsServer() as server:
        yield server.address


def _named_anew(url: str, parameter: str) -> NewUrl:
    numbers = count(1)
    run = f"t{time.time_ns() // 1_000_000 % 10**9}"

    def new() -> str:
        parts = urlsplit(url)
        query = "&".join(filter(None, [parts.query, f"{parameter}={run}_{next(numbers)}_"]))
        return urlunsplit(parts._replace(query=query))

    return new
