"""Servers without room on their disk, and such as let nobody write."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
from pymongo.errors import AutoReconnect

from shop.bootstrap import bootstrap, open_event_store
from shop.cli import main
from shop.config import Settings
from shop.domain.pricing import PricingSet
from shop.domain.product import CreateProduct, ProductCreated
from shop.eventsourcing import (
    AggregateRef,
    Command,
    CommandPayload,
    CommandResult,
    Commit,
    Event,
    EventStore,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
    new_id,
)
from shop.health import health_of
from tests.backends.writers import Writers
from tests.conftest import Eventually
from tests.notebook import AnyEvent, note, noted, positions, registry
from tests.real.databases import DATABASE_SERVERS, DatabaseServer
from tests.real.mongodb import MongoServer
from tests.real.postgres import PASSWORD, PostgresServer

T = TypeVar("T")

MEBIBYTE = 1024 * 1024
DICE = random.Random(1)


def incompressible(size: int) -> str:
    """Text that no server makes smaller."""
    return DICE.randbytes(size // 2).hex()


def large_product() -> Sequence[AnyEvent]:
    id, created = new_id(), ProductCreated(incompressible(100_000), 1)
    return [
        Event.new(AggregateRef("shop.product", id), version=1, data=created),
        Event.new(AggregateRef("shop.pricing", id), version=1, data=PricingSet(2999)),
    ]


def check_models(url: str) -> None:
    """The read models are what the log says."""
    assert main(["verify"], {"SHOP_EVENT_STORE": url}) == 0


@pytest.mark.parametrize(
    ("kind", "size", "goes_on"),
    [
        # PostgreSQL writes its own log in files of 16 MiB, and ends itself when it cannot. It can
        # for as long as it is at the beginning of such a file, so that must be short.
        pytest.param("postgres", 17 * MEBIBYTE, True, id="postgres"),
        pytest.param("postgres", 8192, False, id="postgres, its log"),
        pytest.param("mongodb", MEBIBYTE, False, id="mongodb"),
        pytest.param("mongodb_replica_set", MEBIBYTE, False, id="mongodb_replica_set"),
    ],
)
def test_a_shop_whose_server_may_write_no_more_loses_nothing_and_goes_on_when_it_may(
    kind: str, size: int, goes_on: bool, eventually: Eventually
) -> None:
    """Whoever has made room starts a server again that has ended itself, and nothing else."""
    with DATABASE_SERVERS[kind]() as server:
        url = server.url("shop", "timeout=1")
        with bootstrap(Settings(event_store=url)) as shop:
            with Writers(shop.store, make=large_product) as writers:
                writers.go_on(eventually)
                server.limit_files(size)
                if goes_on:
                    eventually(lambda: writers.refused)
                    assert f"127.0.0.1:{server.port}" in str(writers.refused)
                    assert "its disk takes no more" in str(writers.refused)
                    readable = positions(shop.store.read())
                    assert readable == list(range(1, len(readable) + 1))
                    server.limit_files(None)
                else:
                    eventually(lambda: server.process.poll() is not None)
                    server.start()
                writers.go_on(eventually)
            writers.check()
            assert shop.wait_for(shop.store.head(), 10)
            eventually(lambda: health_of(shop).ready)
        check_models(url)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """Has a directory on a disk of its own."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "small-disk", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk; files that may not grow are tested above")
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


def until_refused(write: Callable[[], T]) -> tuple[list[T], StoreUnavailableError]:
    """What was acknowledged before nothing more was taken, and how that was said."""
    acknowledged: list[T] = []
    while True:
        try:
            acknowledged.append(write())
        except OutcomeUnknownError:  # its server went away in the middle
            continue
        except StoreUnavailableError as error:
            return acknowledged, error


def is_taken(write: Callable[[], object]) -> bool:
    with suppress(StoreUnavailableError):
        write()
        return True
    return False


def append_large(store: EventStore) -> Callable[[], Commit]:
    return lambda: store.append([noted(note(), 1, incompressible(100_000))])


def check(store: EventStore, acknowledged: list[Commit]) -> None:
    """Everything acknowledged is there and goes on."""
    for commit in acknowledged:
        known = store.find_commit(commit.id)
        assert known is not None
        assert known.first == commit.first
    assert positions(store.read()) == list(range(1, store.head() + 1))
    assert store.append([noted(note(), 1)]).first == store.head()


def administer(server: PostgresServer, *statements: str, database: str = "postgres") -> None:
    with psycopg.connect(server.url(database), autocommit=True) as connection:
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
                acknowledged, error = until_refused(append_large(store))
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
                acknowledged, error = until_refused(append_large(store))
                assert f"127.0.0.1:{server.port}" in str(error)
                assert "its disk is full" in str(error) or server.process.poll() is not None
                server.kill()
            server.start()
            check(store, [before, *acknowledged])
        server.kill()


@contextmanager
def read_only(server: DatabaseServer) -> Iterator[None]:
    """Has a PostgreSQL server take no writes, or a replica set without a primary nothing at all."""
    if isinstance(server, PostgresServer):
        setting = "default_transaction_read_only"
        administer(server, f"ALTER SYSTEM SET {setting} = on", "SELECT pg_reload_conf()")
        yield
        lifted = (f"SET {setting} = off", f"ALTER SYSTEM RESET {setting}")
        administer(server, *lifted, "SELECT pg_reload_conf()")
        return
    with server.client() as client:
        with suppress(AutoReconnect):  # some versions cut the connection
            client.admin.command("replSetStepDown", 600, force=True)
        yield
        client.admin.command("replSetFreeze", 0)


READ_ONLY = {
    "postgres": "the server is read-only",
    "mongodb_replica_set": "its replica set has had no primary",
}


@pytest.mark.parametrize("kind", READ_ONLY)
def test_a_shop_whose_server_takes_no_writes_says_so_and_goes_on_when_it_does(
    kind: str, eventually: Eventually
) -> None:
    with DATABASE_SERVERS[kind]() as server:
        url = server.url("shop", "timeout=1")
        with bootstrap(Settings(event_store=url)) as shop:

            def create(command: Command[CommandPayload] | None = None) -> CommandResult:
                new = Command.new(CreateProduct("Mouse", 2999, 50))
                return shop.commands.dispatch(command or new)

            created, wanted = [create()], Command.new(CreateProduct("Keyboard", 4999, 20))
            with read_only(server):
                more, error = until_refused(create)
                assert READ_ONLY[kind] in str(error)
                assert f"127.0.0.1:{server.port}" in str(error)
                assert not is_taken(lambda: create(wanted))
            eventually(lambda: is_taken(lambda: create(wanted)))
            for result in (*created, *more):
                assert shop.store.find_commit(result.command_id)
            assert create(wanted).replayed
            assert shop.wait_for(shop.store.head(), 10)
            eventually(lambda: health_of(shop).ready)
        check_models(url)


def hidden(password: str, error: BaseException | None) -> bool:
    """Whether neither the error nor what it came of shows the password."""
    while error is not None and password not in str(error):
        error = error.__cause__
    return error is None


def test_a_user_of_postgresql_who_may_only_read_is_told_so_until_he_may_write(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.url("shop")
    with open_event_store(url, registry()) as store:
        store.append([noted(note(), 1)])
    administer(
        postgres_server,
        f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'",
        "GRANT USAGE ON SCHEMA shop TO clerk",
        "GRANT SELECT ON ALL TABLES IN SCHEMA shop TO clerk",
        database="shop",
    )
    url = url.replace("shop:", "clerk:", 1)
    told = "does not let us do that: permission denied"
    with open_event_store(url, registry()) as store:
        assert store.head() == 1
        with pytest.raises(StoreError, match=told) as refused:
            store.append([noted(note(), 1)])
        assert not isinstance(refused.value, StoreUnavailableError)
        assert hidden(PASSWORD, refused.value)
        administer(
            postgres_server, "GRANT ALL ON ALL TABLES IN SCHEMA shop TO clerk", database="shop"
        )
        assert store.append([noted(note(), 1)]).first == 2
    for elsewhere, right in (
        (f"{url}?schema=another", "CREATE on the database"),
        (url.replace("/shop", "/another"), "CREATEDB"),
    ):
        with pytest.raises(
            StoreError, match=f"{told}.*the user needs {right}, or somebody who"
        ) as e:
            bootstrap(Settings(event_store=elsewhere))
        assert hidden(PASSWORD, e.value)


def test_a_user_of_mongodb_who_may_only_read_is_told_so_until_he_may_write(
    standalone: MongoServer,
) -> None:
    with open_event_store(standalone.url("shop"), registry()) as store:
        store.append([noted(note(), 1)])
    with standalone.client() as client:
        client["admin"].command("createUser", "root", pwd="secret", roles=["root"])
        client["shop"].command("createUser", "clerk", pwd="s3cret", roles=["read"])
    standalone.stop()
    standalone.options = ("--auth",)
    standalone.start()
    url = standalone.url("shop").replace("://", "://clerk:s3cret@")
    with open_event_store(url, registry()) as store:
        with pytest.raises(StoreError, match="give it the role readWrite") as refused:
            store.append([noted(note(), 1)])
        assert not isinstance(refused.value, StoreUnavailableError)
        assert hidden("s3cret", refused.value)
        with pytest.raises(StoreError, match="give it the role readWrite") as refused:
            bootstrap(Settings(event_store=f"{url}?prefix=another_"))
        assert hidden("s3cret", refused.value)
        with standalone.client(username="root", password="secret") as client:
            client["shop"].command("grantRolesToUser", "clerk", roles=["readWrite"])
        assert store.append([noted(note(), 1)]).first == 2
