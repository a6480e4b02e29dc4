"""Servers of stores that go away, come back, hang, step down, or lose the connection."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import Self
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from pymongo.errors import AutoReconnect

from shop.bootstrap import bootstrap, open_event_store
from shop.config import Settings
from shop.domain.product import CreateProduct
from shop.eventsourcing import (
    Aggregates,
    Command,
    Commit,
    CommitInDoubtError,
    ConcurrencyError,
    NewCommit,
    OutcomeUnknownError,
    Query,
    Registry,
    Repository,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.stores.group_commit import GroupCommit
from shop.health import health_of
from shop.stores import open_backend
from tests.backends.conftest import Start
from tests.backends.writers import Writers
from tests.conftest import Eventually
from tests.eventsourcing.bank import BANK, Account
from tests.notebook import note, noted, positions, registry, stream
from tests.real.databases import DatabaseServer
from tests.real.mongodb import MongoServer
from tests.real.proxy import CuttingProxy


def test_a_shop_starts_before_its_server_and_begins_when_that_does(
    server: DatabaseServer, eventually: Eventually
) -> None:
    server.stop()
    with bootstrap(Settings(event_store=server.url("shop", "timeout=0.3"))) as shop:
        health = health_of(shop)
        assert not health.ready
        assert "not open yet" in str(health.problems)
        with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{server.port}/shop"):
            shop.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 50)))
        server.start()
        eventually(lambda: health_of(shop).ready)
        created = shop.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 50)))
        assert shop.wait_for(created.position, 10)


def test_a_shop_whose_server_goes_away_while_it_starts_begins_when_that_is_back(
    server: DatabaseServer, nats: str, eventually: Eventually
) -> None:
    settings = Settings(
        event_store=server.url("shop", "timeout=0.3"), event_bus=f"nats://{nats}?prefix={uuid4()}"
    )
    with closing(bootstrap(settings)) as shop:
        server.kill()
        shop.start()
        assert "not open yet" in str(health_of(shop).problems)
        server.start()
        eventually(lambda: health_of(shop).ready)
        with bootstrap(msgspec.structs.replace(settings, role="web")) as web:
            eventually(lambda: not health_of(web).degraded)
            created = web.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 50)))
        assert shop.wait_for(created.position, 10)


def test_an_outage_is_told_in_lines_and_not_in_tracebacks(
    server: DatabaseServer, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with bootstrap(Settings(event_store=server.url("shop", "timeout=0.3"))) as shop:
        eventually(lambda: health_of(shop).ready)
        server.kill()
        eventually(lambda: all(p.failure for p in health_of(shop).projections))
        server.start()
        eventually(lambda: health_of(shop).ready)
    failures = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "projection shop_stats failed (attempt 1)" in caplog.text
    assert [record for record in failures if record.exc_info] == []


def test_a_wrong_password_is_told_at_once_and_not_shown(standalone: MongoServer) -> None:
    url = standalone.url("shop").replace("://", "://clerk:s3cret@")
    began = time.monotonic()
    with pytest.raises(StoreError, match="authentication failed") as refused:
        bootstrap(Settings(event_store=url))
    assert not isinstance(refused.value, StoreUnavailableError)
    assert time.monotonic() - began < 5
    error: BaseException | None = refused.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_is_restarted_under_load_loses_and_doubles_nothing(
    server: DatabaseServer, how: str, eventually: Eventually
) -> None:
    with (
        open_event_store(server.url("shop", "timeout=1"), registry()) as store,
        Writers(store) as writers,
    ):
        for _ in range(2):
            writers.go_on(eventually)
            server.stop(signal.SIGINT) if how == "stop" else server.kill()
            server.start()
        writers.go_on(eventually)
    with open_event_store(server.url("shop"), registry()) as store:
        writers.store = store
        writers.check()


def test_a_primary_that_steps_down_is_survived(
    replica_set: MongoServer, eventually: Eventually
) -> None:
    with (
        open_event_store(replica_set.url("shop", "timeout=5"), registry()) as store,
        replica_set.client() as client,
    ):
        with Writers(store) as writers:
            for _ in range(2):
                writers.go_on(eventually)
                with suppress(AutoReconnect):  # some versions cut the connection
                    client.admin.command("replSetStepDown", 1, force=True)
                replica_set.wait()
            writers.go_on(eventually)
        writers.check()


def test_a_server_that_hangs_is_waited_for_no_longer_than_is_said(
    server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop.backends.mongodb.database._ANSWER", 0.5)  # PostgreSQL: by timeout
    with open_event_store(server.url("shop", "timeout=0.5"), registry()) as store:
        store.append(stream(note(), 1))
        server.pause()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            store.head()
        assert time.monotonic() - began < 6
        server.resume()
        assert store.append(stream(note(), 1)).first == 2


def test_appends_under_way_are_finished_when_the_stores_are_closed(
    server: DatabaseServer, eventually: Eventually
) -> None:
    """One is with the server, and the others wait to be sent together."""
    with closing(open_backend(server.url("shop"))) as backend, ThreadPoolExecutor(5) as pool:
        store = backend.events(registry())
        store.append(stream(note(), 1))
        group: GroupCommit[object] = store._group  # type: ignore[attr-defined]  # of both kinds
        server.pause()
        appending = [pool.submit(store.append, stream(note(), 1)) for _ in range(4)]
        eventually(lambda: len(group._queue) == 3)
        ending = pool.submit(backend.close)
        eventually(lambda: group._closed or ending.done())
        server.resume()
        assert sorted(append.result().first for append in appending) == [2, 3, 4, 5]


def test_a_command_of_which_nobody_can_tell_what_became_is_done_once(
    server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop.backends.mongodb.database._ANSWER", 0.5)  # PostgreSQL: by timeout
    with bootstrap(Settings(event_store=server.url("shop", "timeout=0.5"))) as shop:
        first = shop.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 50)))
        server.pause()
        command = Command.new(CreateProduct("Keyboard", 4999, 20))
        began = time.monotonic()
        with pytest.raises(OutcomeUnknownError, match=str(command.id)) as told:
            shop.commands.dispatch(command)
        assert time.monotonic() - began < 10
        assert "whether what was to be stored is stored is not known" in str(told.value.__cause__)
        server.resume()
        again = shop.commands.dispatch(command)
        assert again.position == shop.store.head() == first.position + 2


def proxied(server: DatabaseServer, proxy: CuttingProxy) -> str:
    """The URL of the server by way of a proxy."""
    if isinstance(server, MongoServer):
        return f"mongodb://127.0.0.1:{proxy.port}/shop?directConnection=true"
    return server.url("shop").replace(f":{server.port}", f":{proxy.port}")


STORING = re.compile(rb'\x02insert\0|"digest"')
"""What a request that stores an append has in it, for MongoDB or for PostgreSQL."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_append_that_is_cut_off_is_done_once(server: DatabaseServer, moment: str) -> None:
    with (
        CuttingProxy(server.port, STORING) as proxy,
        open_event_store(proxied(server, proxy), registry()) as store,
    ):
        store.append([noted(note(), 1)])
        ref, commit_id = note(), uuid4()
        proxy.cut(moment)  # type: ignore[arg-type]  # one of the two
        commit = store.append([noted(ref, 1)], commit_id=commit_id)
        assert proxy.cuts == 1
        assert (commit.first, commit.replayed) == (2, moment == "after")
        empty = uuid4()
        proxy.cut(moment)  # type: ignore[arg-type]  # one of the two
        assert store.append([], commit_id=empty).replayed == (moment == "after")
        assert store.append([noted(ref, 2)]).first == 3
        assert len(list(store.read())) == store.head() == 3


def test_an_aggregate_that_is_cut_off_when_it_is_saved_is_saved(server: DatabaseServer) -> None:
    with (
        CuttingProxy(server.port, STORING) as proxy,
        open_event_store(proxied(server, proxy), Registry(BANK.events)) as store,
    ):
        accounts = Repository(Aggregates(store), Account)
        account = accounts.use(uuid4(), lambda new: new.open("Ada"))
        for version in (2, 3):
            proxy.cut("after")
            account.deposit(10)
            commit = accounts.save(account)
            assert (commit.first, commit.replayed) == (version, False)
            assert (account.stored_version, account.changes) == (version, [])


def test_what_is_stored_before_others_of_its_group_are_cut_off_is_no_repeat(
    server: DatabaseServer,
) -> None:
    """They go to the server one after the other, being in conflict or too large together."""
    with (
        CuttingProxy(server.port, re.compile(b"cut here")) as proxy,
        open_event_store(proxied(server, proxy), registry()) as store,
    ):
        ref = note()
        large, cut = "x" * 9_000_000, "cut here" * 1_000_000
        events = [noted(ref, 1, large), noted(ref, 1), noted(note(), 1, cut)]
        proxy.cut("before")
        first, refused, last = store.append_each([NewCommit([event]) for event in events])
        assert proxy.cuts == 1
        assert isinstance(refused, ConcurrencyError)
        assert isinstance(first, Commit)
        assert isinstance(last, Commit)
        assert [(c.first, c.replayed) for c in (first, last)] == [(1, False), (2, False)]


def test_appends_that_are_cut_off_hundreds_of_times_are_done_once(server: DatabaseServer) -> None:
    """By twenty clients: after a cut, the driver asks its server at most every half second."""
    chance = random.Random(5)
    with ExitStack() as opened:
        proxy = opened.enter_context(CuttingProxy(server.port, STORING))
        clients = []
        for _ in range(20):
            store = opened.enter_context(open_event_store(proxied(server, proxy), registry()))
            clients.append(opened.enter_context(Writers(store, threads=2)))
        until = time.monotonic() + 60
        while proxy.cuts < 200:
            cuts = proxy.cuts
            proxy.cut(chance.choice(["before", "after"]))
            while proxy.cuts == cuts:
                assert time.monotonic() < until
                threading.Event().wait(0.001)
    with open_event_store(server.url("shop"), registry()) as store:
        acknowledged = dict(one for client in clients for one in client.acknowledged.items())
        assert positions(store.read()) == list(range(1, store.head() + 1))
        assert {commit.id: commit.first for commit in store.commits()} == acknowledged


def test_a_slow_reader_goes_on_after_a_restart_of_the_server(server: DatabaseServer) -> None:
    with open_event_store(server.url("shop"), registry()) as store:
        texts = ["x" * 400_000] * 60 + ["x"] * 1000  # more than a page, and more than an answer
        store.append_each([NewCommit([noted(note(), 1, text)]) for text in texts])
        reading = store.read()
        read = [next(reading)]
        server.kill()
        server.start()
        read += reading
        assert positions(read) == list(range(1, len(texts) + 1))


class Canceller:
    """An administrator who ends whatever the server is doing for others. Left, he lets it be."""

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="canceller", daemon=True)
        self.ended = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        if isinstance(self._server, MongoServer):
            with self._server.client() as client:
                while not self._done.is_set():
                    busy = {"appName": "shop", "op": {"$in": ["insert", "query", "update"]}}
                    for operation in client.admin.aggregate([{"$currentOp": {}}, {"$match": busy}]):
                        client.admin.command("killOp", op=operation["opid"])
                        self.ended += 1
            return
        with psycopg.connect(self._server.url("shop"), autocommit=True) as connection:
            while not self._done.is_set():
                self.ended += connection.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE state = 'active' AND pid <> pg_backend_pid()"
                ).rowcount


def test_appends_that_an_administrator_cancels_have_their_true_outcomes(
    server: DatabaseServer,
) -> None:
    outcomes: dict[UUID | None, Commit | Exception] = {}
    with open_event_store(server.url("shop"), registry()) as store:
        store.append([noted(note(), 1)])

        def append_until_cancelled(_: int) -> None:
            while canceller.ended < 300:
                commits = [NewCommit([noted(note(), 1, "x" * 20_000)], uuid4()) for _ in range(10)]
                ids = [commit.commit_id for commit in commits]
                outcomes.update(zip(ids, store.append_each(commits), strict=True))

        with Canceller(server) as canceller, ThreadPoolExecutor(2) as pool:
            list(pool.map(append_until_cancelled, range(2)))
        assert positions(store.read()) == list(range(1, store.head() + 1))
        stored = {commit.id: commit.first for commit in store.commits()}
    for id, outcome in outcomes.items():
        if isinstance(outcome, Commit):
            assert stored[outcome.id] == outcome.first
        elif not isinstance(outcome, CommitInDoubtError):
            assert isinstance(outcome, StoreUnavailableError)
            assert id not in stored


def test_a_writer_that_is_killed_or_stopped_keeps_nobody_waiting(
    server: DatabaseServer, start_on_store: Start
) -> None:
    """MongoDB has no locks; PostgreSQL goes on with what was sent, and lets go of its lock."""
    url = server.url("shop")
    with open_event_store(url, registry()) as store:
        writer = start_on_store("append_for_ever", url)
        for number in range(10):
            last = int(writer.hear())
            writer.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert store.append(stream(note(), 1)).first > last
            assert time.monotonic() - began < 5
            if number < 9:
                writer.process.send_signal(signal.SIGCONT)
        writer.process.kill()
        writer.process.wait()
        head = store.append(stream(note(), 1)).last
        assert positions(store.read(Query())) == list(range(1, head + 1))
