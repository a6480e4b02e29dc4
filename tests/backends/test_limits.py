"""Servers without room on their disk, and such as let nobody write."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from shop.bootstrap import open_event_store
from shop.eventsourcing import Commit, EventStore, StoreError, StoreUnavailableError
from tests.conftest import Eventually
from tests.notebook import note, noted, positions, registry
from tests.real.mongodb import MongoServer
from tests.real.postgres import PASSWORD, PostgresServer
from tests.real.process import unavailable


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """Has a directory on a disk of its own."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "small-disk", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        unavailable("a small disk is made with mount, which is for root alone")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def filled(path: Path, *, but: int) -> Iterator[None]:
    """Has a disk full but for so many bytes."""
    filling = path / "filling"
    with filling.open("wb") as file:
        file.write(bytes(shutil.disk_usage(path).free - but))
    yield
    filling.unlink()


def append_until_refused(store: EventStore) -> tuple[list[Commit], StoreUnavailableError]:
    """What was acknowledged before there was no room left, and how that was said."""
    acknowledged: list[Commit] = []
    dice = random.Random(1)
    while True:
        text = dice.randbytes(50_000).hex()  # nothing that a server could make smaller
        try:
            acknowledged.append(store.append([noted(note(), 1, text)]))
        except StoreUnavailableError as error:
            return acknowledged, error


def may_write(store: EventStore) -> bool:
    with suppress(StoreUnavailableError):
        return store.append([noted(note(), 1)]).size == 1
    return False


def check(store: EventStore, acknowledged: list[Commit]) -> None:
    """Everything acknowledged is there and goes on."""
    for commit in acknowledged:
        known = store.find_commit(commit.id)
        assert known is not None
        assert known.first == commit.first
    assert positions(store.read()) == list(range(1, store.head() + 1))
    assert store.append([noted(note(), 1)]).first == store.head()


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def administer(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_postgresql_whose_disk_is_full_says_so_and_loses_nothing(
    postgres_server: PostgresServer,
) -> None:
    disk = postgres_server.directory / "small"
    disk.mkdir()
    with small_disk(disk, "32m"):
        shutil.chown(disk, postgres_server.directory.stat().st_uid)
        administer(
            postgres_server,
            f"CREATE TABLESPACE small LOCATION '{disk}'",
            "CREATE DATABASE shop TABLESPACE small",
        )
        with open_event_store(postgres_server.url("shop"), registry()) as store:
            before = store.append([noted(note(), 1)])
            with filled(disk, but=1_000_000):
                acknowledged, error = append_until_refused(store)
                assert "127.0.0.1" in str(error)
                assert "the disk of the server is full" in str(error)
                assert store.head() == 1 + len(acknowledged)
                assert positions(store.read()) == list(range(1, store.head() + 1))
            check(store, [before, *acknowledged])
        postgres_server.kill()


def test_mongodb_whose_disk_is_full_goes_on_when_there_is_room_again() -> None:
    """mongod ends itself when it cannot write; who starts it again finds everything."""
    server = MongoServer(replica_set=False)
    data = server.directory / "data"
    data.mkdir()
    with small_disk(data, "600m"), server:
        with open_event_store(server.url("shop", "timeout=0.5"), registry()) as store:
            before = store.append([noted(note(), 1)])
            with filled(data, but=5_000_000):
                acknowledged, error = append_until_refused(store)
                assert f"127.0.0.1:{server.port}" in str(error)
                assert "its disk is full" in str(error) or server.process.poll() is not None
                server.kill()
            server.start()
            check(store, [before, *acknowledged])
        server.kill()


def test_postgresql_that_is_read_only_says_so_and_goes_on_when_it_is_not(
    postgres_server: PostgresServer, eventually: Eventually
) -> None:
    with open_event_store(postgres_server.url("shop"), registry()) as store:
        store.append([noted(note(), 1)])
        read_only = "ALTER SYSTEM SET default_transaction_read_only"
        administer(postgres_server, f"{read_only} = on", "SELECT pg_reload_conf()")
        acknowledged, error = append_until_refused(store)
        assert "the server is read-only" in str(error)
        assert positions(store.read()) == list(range(1, len(acknowledged) + 2))
        administer(
            postgres_server,
            "SET default_transaction_read_only = off",
            f"{read_only} = off",
            "SELECT pg_reload_conf()",
        )
        eventually(lambda: may_write(store))
        check(store, acknowledged)


def test_a_user_of_postgresql_who_may_only_read_is_told_so(postgres_server: PostgresServer) -> None:
    url = postgres_server.url("shop")
    with open_event_store(url, registry()) as store:
        store.append([noted(note(), 1)])
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'",
            "GRANT USAGE ON SCHEMA shop TO clerk",
            "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO clerk",
        ):
            connection.execute(statement.encode())
    with open_event_store(url.replace("shop:", "clerk:", 1), registry()) as store:
        assert store.head() == 1
        with pytest.raises(StoreError, match="does not let us do that: permission denied") as told:
            store.append([noted(note(), 1)])
        assert not isinstance(told.value, StoreUnavailableError)
        assert PASSWORD not in str(told.value)


def test_a_user_of_mongodb_who_may_only_read_is_told_so() -> None:
    with MongoServer(replica_set=False) as server:
        with open_event_store(server.url("shop"), registry()) as store:
            store.append([noted(note(), 1)])
        with server.client() as client:
            client["shop"].command("createUser", "clerk", pwd="s3cret", roles=["read"])
        server.stop()
        server.options = ("--auth",)
        server.start()
        url = server.url("shop").replace("://", "://clerk:s3cret@")
        with open_event_store(url, registry()) as store:
            with pytest.raises(StoreError, match="give it the role readWrite") as told:
                store.append([noted(note(), 1)])
            assert not isinstance(told.value, StoreUnavailableError)
            assert "s3cret" not in str(told.value)
