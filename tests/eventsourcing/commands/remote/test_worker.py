"""Workers that carry out commands of other processes, over a real NATS."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings

from shop.backends.nats.requests import NatsRequests
from shop.bootstrap import open_event_store
from shop.eventsourcing import (
    Aggregates,
    Command,
    CommandBus,
    CommandResult,
    Module,
    NoWorkerError,
    OutcomeUnknownError,
    PayloadError,
    Query,
    RemoteCommandBus,
    UnitOfWork,
)
from shop.eventsourcing.buses.requests import RequestBus
from shop.eventsourcing.commands.wire import (
    CommandMessage,
    Expired,
    command_subject,
    decode_answer,
    encode_message,
)
from shop.eventsourcing.commands.worker import CommandWorker
from tests.conftest import Eventually
from tests.eventsourcing.bank import (
    BANK,
    Account,
    Deposit,
    Open,
    Opened,
    account,
    booked,
    registry,
)
from tests.eventsourcing.commands.remote.conftest import (
    Gate,
    Requests,
    Workers,
    Wrapped,
    connected,
    counted,
)
from tests.eventsourcing.conftest import Stores
from tests.eventsourcing.poison import poisoned
from tests.real.nats import NatsServer

ADA = account()


class TestWorkers:
    def test_without_a_worker_it_is_said_at_once(self, remote: RemoteCommandBus) -> None:
        began = time.monotonic()
        with pytest.raises(NoWorkerError, match=r"no worker accepted bank\.account\.open"):
            remote.dispatch(Command.new(Open("Ada")))
        assert counted(remote) == {"sent": 1, "no_worker": 1}
        with pytest.raises(NoWorkerError):
            remote.check()
        assert time.monotonic() - began < 1

    def test_a_worker_that_is_there_is_seen(
        self, remote: RemoteCommandBus, workers: Workers
    ) -> None:
        worker = workers.start()
        remote.check()
        worker.close(5)
        with pytest.raises(NoWorkerError):
            remote.check()

    def test_without_a_connection_it_is_said_at_once(
        self, memory_stores: Stores, eventually: Eventually
    ) -> None:
        with NatsServer() as server, connected(server.address) as connection:
            remote = RemoteCommandBus(NatsRequests(connection), memory_stores.events, [BANK])
            server.kill()
            eventually(lambda: not connection.connected)
            with pytest.raises(NoWorkerError):
                remote.dispatch(Command.new(Open("Ada")), timeout=10)
        with pytest.raises(NoWorkerError, match="closed"):
            remote.dispatch(Command.new(Open("Ada")))

    def test_workers_of_another_store_are_none(
        self, remote: RemoteCommandBus, requests: Requests
    ) -> None:
        others = Workers(Stores.at("memory://"), requests)
        others.start()
        with pytest.raises(NoWorkerError):
            remote.dispatch(Command.new(Open("Ada")))
        others.close()

    def test_a_command_goes_to_workers_that_know_it(
        self, remote: RemoteCommandBus, workers: Workers
    ) -> None:
        old = Module(BANK.aggregates, {Deposit: BANK.handlers[Deposit]})
        for _ in range(3):
            workers.start(module=old)
        with pytest.raises(NoWorkerError):
            remote.dispatch(Command.new(Open("Ada")))
        workers.start()
        for _ in range(10):
            remote.dispatch(Command.new(Open("Ada")))

    def test_one_of_several_workers_gets_each_command(
        self, remote: RemoteCommandBus, workers: Workers, eventually: Eventually
    ) -> None:
        gates = [Gate(), Gate()]
        for gate in gates:
            workers.start(module=gate.module)
            gate.open.set()
        for _ in range(50):
            remote.dispatch(Command.new(Open("Ada")))
        assert all(gate.waiting for gate in gates)
        assert sum(len(gate.waiting) for gate in gates) == 50

    def test_a_full_worker_takes_no_more_and_what_it_did_not_take_is_sent_again(
        self,
        requests: Requests,
        memory_stores: Stores,
        workers: Workers,
        eventually: Eventually,
    ) -> None:
        gate, bus = Gate(), Wrapped(requests())
        remote = RemoteCommandBus(bus, memory_stores.events, [BANK])
        workers.start(module=gate.module, threads=1)
        with ThreadPoolExecutor(12) as threads:
            waiting = [
                threads.submit(remote.dispatch, Command.new(Open(f"Ada {n}")), timeout=20)
                for n in range(12)
            ]
            eventually(lambda: len(bus.sent) > 12)  # one was sent again
            with pytest.raises(NoWorkerError, match="busy"):
                remote.dispatch(Command.new(Open("Eve")), timeout=0.3)
            gate.open.set()
            results = [future.result() for future in waiting]
        assert len({result.aggregate for result in results}) == 12
        counts = counted(remote)
        assert (counts["sent"], counts["no_worker"]) == (13, 1)
        assert counts["not_taken"] >= 4
        assert counts["retried"] >= 3

    def test_what_nobody_waits_for_any_more_is_not_begun(
        self, requests: Requests, workers: Workers, memory_stores: Stores
    ) -> None:
        workers.start()
        wanted = Command.new(Open("Ada"))
        late = CommandMessage.of(
            wanted,
            b'{"owner":"Ada"}',
            timeout=5.0,
            deadline=datetime.now(UTC) - timedelta(seconds=0.01),
        )
        subject = command_subject(memory_stores.events.info().identity, "bank.account.open")
        answer = decode_answer(requests().request(subject, encode_message(late), timeout=5))
        assert isinstance(answer, Expired)
        assert memory_stores.events.find_commit(wanted.id) is None

    def test_a_worker_whose_clock_is_ahead_is_told_more_time(
        self,
        requests: Requests,
        memory_stores: Stores,
        workers: Workers,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        workers.start()
        self._set_clocks(timedelta(minutes=1), monkeypatch)
        bus = Wrapped(requests())
        remote = RemoteCommandBus(bus, memory_stores.events, [BANK])
        for _ in range(3):
            assert remote.dispatch(Command.new(Open("Ada"))).version == 1
        assert len(bus.sent) == 4, "the first one was sent twice"
        assert "the clock of a worker is" in caplog.text

    @pytest.mark.parametrize("ahead", [timedelta(minutes=1), timedelta(days=365 * 7500)])
    def test_a_clock_that_is_set_right_is_no_longer_allowed_for(
        self,
        requests: Requests,
        memory_stores: Stores,
        workers: Workers,
        monkeypatch: pytest.MonkeyPatch,
        eventually: Eventually,
        ahead: timedelta,
    ) -> None:
        bus = Wrapped(requests())
        remote = RemoteCommandBus(bus, memory_stores.events, [BANK])
        monkeypatch.setattr("shop.eventsourcing.commands.remote.AHEAD_SECONDS", 0.2)
        workers.start()
        with monkeypatch.context() as wrong, suppress(NoWorkerError):
            self._set_clocks(ahead, wrong)
            remote.dispatch(Command.new(Open("Ada")), timeout=0.3)

        def is_right() -> bool:
            remote.dispatch(Command.new(Open("Ada")))
            return bus.sent[-1].deadline < datetime.now(UTC) + timedelta(seconds=20)

        eventually(is_right)

    def _set_clocks(self, ahead: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the clocks of all workers be ahead."""
        from shop.eventsourcing.commands import wire, worker

        class Ahead(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override] # as it is used
                return datetime.now(UTC) + ahead

        monkeypatch.setattr(worker, "datetime", Ahead)
        monkeypatch.setattr(wire, "datetime", Ahead)

    def test_what_cannot_be_read_is_answered_and_logged(
        self,
        requests: Requests,
        workers: Workers,
        memory_stores: Stores,
        remote: RemoteCommandBus,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        workers.start(threads=1)
        subject = command_subject(memory_stores.events.info().identity, "bank.account.open")
        whole = encode_message(
            CommandMessage.of(
                Command.new(Open("Ada")),
                b'{"owner":"Ada"}',
                timeout=5,
                deadline=datetime.max.replace(tzinfo=UTC),
            )
        )
        for data in (
            b"nonsense",
            b"{}",
            b"\xff",
            whole.replace(b"bank", b"ban\xff"),
            whole.replace(b"{", b'{"x":' + b"[" * 100_000, 1),
            re.sub(rb'"9999-[^"]+"', b'"9999-12-31T00:00:00"', whole),
        ):
            assert data != whole
            assert b'"failed"' in requests().request(subject, data, timeout=5)
        assert "cannot be read" in caplog.text
        remote.dispatch(Command.new(Open("Ada")))

    def test_whatever_a_stranger_sends_is_answered(
        self,
        requests: Requests,
        workers: Workers,
        memory_stores: Stores,
        remote: RemoteCommandBus,
    ) -> None:
        workers.start(threads=1)
        memory_stores.events.append(booked(ADA))
        bus = requests()
        subject = command_subject(memory_stores.events.info().identity, "bank.account.deposit")
        deposit = CommandMessage.of(
            Command.new(Deposit(1), ADA.id, expected_version=1, actor="eve"),
            b'{"amount":1}',
            timeout=5,
            deadline=datetime.max.replace(tzinfo=UTC),
        )

        @settings(max_examples=300, deadline=None)
        @given(poisoned(encode_message(deposit)))
        def send(message: bytes) -> None:
            answer = decode_answer(bus.request(subject, message, timeout=5))
            assert "answer cannot be read" not in str(answer)

        send()
        assert remote.dispatch(Command.new(Open("Eve"))).version == 1


class TestStopping:
    def test_a_stopping_worker_finishes_what_it_began_and_leaves_the_rest_to_others(
        self,
        remote: RemoteCommandBus,
        workers: Workers,
        memory_stores: Stores,
        eventually: Eventually,
    ) -> None:
        gate = Gate()
        stopping = workers.start(module=gate.module, threads=1)
        with ThreadPoolExecutor(4) as threads:
            waiting = [threads.submit(remote.dispatch, Command.new(Open("Ada"))) for _ in range(4)]
            eventually(lambda: gate.waiting)
            workers.start()
            stopping.stop()
            eventually(lambda: sum(future.done() for future in waiting) == 3)
            assert len(gate.waiting) == 1
            gate.open.set()
            results = [future.result() for future in waiting]
        assert not any(result.replayed for result in results)
        stopping.close(5)
        assert memory_stores.events.head() == 4
        assert not [t for t in threading.enumerate() if t.name.startswith("command-worker-3")]

    def test_workers_that_come_and_go_lose_nothing_and_do_nothing_twice(
        self, remote: RemoteCommandBus, workers: Workers, memory_stores: Stores
    ) -> None:
        memory_stores.events.append(booked(ADA))
        current = [workers.start(), workers.start()]
        over = threading.Event()

        def deposit() -> list[CommandResult]:
            results = []
            while not over.is_set():
                results.append(remote.dispatch(Command.new(Deposit(1), ADA.id), timeout=20))
            return results

        with ThreadPoolExecutor(4) as threads:
            clients = [threads.submit(deposit) for _ in range(4)]
            for _ in range(5):
                current.append(workers.start())
                current.pop(0).close(5)
            over.set()
            results = [result for client in clients for result in client.result()]
        assert not any(result.replayed for result in results), "an answer got lost"
        assert memory_stores.events.head() == len(results) + 1
        assert sorted(result.position for result in results) == list(range(2, len(results) + 2))

    def test_a_worker_that_was_closed_before_it_joined_leaves_at_once(
        self, remote: RemoteCommandBus, memory_stores: Stores, requests: Requests
    ) -> None:
        commands = CommandBus(memory_stores.events, Aggregates(memory_stores.events), [BANK])
        worker = CommandWorker(commands, memory_stores.events, requests())
        worker.stop()
        worker.start()
        worker.close(5)
        worker.close(5)
        with pytest.raises(NoWorkerError):
            remote.dispatch(Command.new(Open("Ada")))


class TestSizes:
    """A server that takes small messages only."""

    @pytest.fixture
    def small(self, memory_stores: Stores) -> Iterator[tuple[RemoteCommandBus, Workers]]:
        with NatsServer() as server, ExitStack() as opened:
            (server.directory / "small.conf").write_text("max_payload: 2048\n")
            server.stop()
            server._options = ("--config", str(server.directory / "small.conf"))
            server.start()

            def requests() -> RequestBus:
                return NatsRequests(opened.enter_context(connected(server.address)))

            workers = Workers(memory_stores, requests)
            yield RemoteCommandBus(requests(), memory_stores.events, [BANK]), workers
            workers.close()

    def test_a_command_that_is_too_large_is_refused(
        self, small: tuple[RemoteCommandBus, Workers]
    ) -> None:
        remote, workers = small
        workers.start()
        with pytest.raises(PayloadError, match="the server takes 2048"):
            remote.dispatch(Command.new(Open("x" * 3000)))
        assert remote.dispatch(Command.new(Open("Ada"))).version == 1

    def test_events_that_are_too_large_for_an_answer_are_read_from_the_store(
        self,
        small: tuple[RemoteCommandBus, Workers],
        memory_stores: Stores,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def open_thrice(payload: Open, id: UUID, work: UnitOfWork) -> None:
            work.find(Account, id).record(Opened("x" * 3000))

        remote, workers = small
        workers.start(module=Module(BANK.aggregates, {Open: open_thrice}))
        wanted = Command.new(Open("Ada"))
        result = remote.dispatch(wanted)
        assert result.events == tuple(memory_stores.events.read(Query()))
        assert result.version == 1

        closed = open_event_store("memory://", registry())
        closed.close()
        monkeypatch.setattr(remote, "_store", closed)
        with pytest.raises(OutcomeUnknownError, match=str(wanted.id)):
            remote.dispatch(wanted, timeout=0.2)


def test_nothing_is_logged_when_all_is_well(
    remote: RemoteCommandBus, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.start()
    remote.dispatch(Command.new(Open("Ada")))
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
