"""Commands dispatched in one place and carried out in another, over a real NATS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.backends.nats.connection import Access, NatsConnection
from shop.backends.nats.requests import NatsRequests
from shop.eventsourcing import (
    AggregateNotFoundError,
    Aggregates,
    Command,
    CommandBus,
    CommandIdReusedError,
    CommandPayload,
    CommandRejected,
    CommandResult,
    Module,
    NoAnswerError,
    NoWorkerError,
    OutcomeUnknownError,
    PayloadError,
    Query,
    RemoteCommandBus,
    StaleVersionError,
    UnitOfWork,
    UnknownCommandError,
    WorkerFailedError,
    command,
)
from shop.eventsourcing.command_wire import (
    CommandMessage,
    Expired,
    command_subject,
    decode_answer,
    encode_message,
)
from shop.eventsourcing.requests import Request, RequestBus, Service
from shop.eventsourcing.worker import CommandWorker
from tests.conftest import Eventually
from tests.eventsourcing.bank import (
    BANK,
    Account,
    Deposit,
    Deposited,
    Open,
    Opened,
    Withdraw,
    account,
    booked,
)
from tests.eventsourcing.conftest import Stores
from tests.real.nats import NatsServer

ADA = account()
Requests = Callable[[], RequestBus]


@pytest.fixture
def requests(nats: str) -> Iterator[Requests]:
    """Makes a connection of its own to NATS, as each process has one."""
    with ExitStack() as opened:
        yield lambda: NatsRequests(opened.enter_context(connected(nats)))


def connected(address: str) -> NatsConnection:
    connection = NatsConnection(Access(servers=[address]))
    assert connection.wait_connected(10)
    return connection


class Workers:
    """Workers that come and go."""

    def __init__(self, stores: Stores, requests: Requests) -> None:
        self._stores = stores
        self._requests = requests
        self._running = ExitStack()

    def start(
        self, *, module: Module = BANK, threads: int = 2, bus: RequestBus | None = None
    ) -> CommandWorker:
        commands = CommandBus(self._stores.events, Aggregates(self._stores.events), [module])
        worker = CommandWorker(
            commands, self._stores.events, bus or self._requests(), threads=threads
        )
        worker.start()
        self._running.callback(worker.close, 5)
        return worker

    def close(self) -> None:
        self._running.close()


@pytest.fixture
def workers(memory_stores: Stores, requests: Requests) -> Iterator[Workers]:
    workers = Workers(memory_stores, requests)
    yield workers
    workers.close()


@pytest.fixture
def remote(memory_stores: Stores, requests: Requests) -> RemoteCommandBus:
    return RemoteCommandBus(requests(), memory_stores.events, [BANK])


class Gate:
    """A handler that waits until it is let through, and tells who is waiting."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting: list[UUID] = []
        self.module = Module(BANK.events, {**BANK.handlers, Open: self._handle})

    def _handle(self, payload: Open, id: UUID, work: UnitOfWork) -> None:
        self.waiting.append(id)
        assert self.open.wait(20)
        work.find(Account, id).open(payload.owner)


class Wrapped:
    """Requests that pass through here on their way."""

    def __init__(self, bus: RequestBus) -> None:
        self.bus = bus
        self.sent: list[CommandMessage] = []

    def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        self.sent.append(msgspec.json.decode(data, type=CommandMessage))
        return self.bus.request(subject, data, timeout=timeout)

    def serve(
        self, subjects: Sequence[str], group: str, receive: Callable[[Request], None]
    ) -> Service:
        return self.bus.serve(subjects, group, receive)


class LosesAnswers(Wrapped):
    """The first requests arrive, and their answers get lost."""

    def __init__(self, bus: RequestBus, count: int) -> None:
        super().__init__(bus)
        self._left = count

    def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        answer = super().request(subject, data, timeout=timeout)
        if self._left:
            self._left -= 1
            raise NoAnswerError("the connection broke")
        return answer


class TestOutcomes:
    """Whoever dispatches cannot tell the difference."""

    def test_the_result_is_that_of_the_worker_with_typed_events(
        self, remote: RemoteCommandBus, workers: Workers, memory_stores: Stores
    ) -> None:
        workers.start()
        wanted = Command.new(Open("Ada"), actor="eve", correlation_id=uuid4())

        result = remote.dispatch(wanted)

        assert result.events == tuple(memory_stores.events.read())
        assert [event.data for event in result.events] == [Opened("Ada")]
        assert result.events[0].metadata == wanted.metadata
        local = CommandBus(memory_stores.events, Aggregates(memory_stores.events), [BANK])
        again = local.dispatch(wanted)
        assert again == msgspec.structs.replace(result, replayed=True)
        assert remote.dispatch(wanted) == again

    @pytest.mark.parametrize(
        "wanted",
        [
            Command.new(Withdraw(1000), ADA.id),
            Command.new(Deposit(1), uuid4()),
            Command.new(Deposit(1), ADA.id, expected_version=7),
            Command.new(Deposit(1), ADA.id, id=UUID(int=7)),
            Command.new(Deposit("much"), ADA.id),  # type: ignore[arg-type] # it is wrong
        ],
        ids=["rejected", "not-found", "stale", "id-reused", "payload"],
    )
    def test_the_error_is_that_of_the_worker(
        self,
        remote: RemoteCommandBus,
        workers: Workers,
        memory_stores: Stores,
        wanted: Command[CommandPayload],
    ) -> None:
        workers.start()
        memory_stores.events.append(booked(ADA, 10), commit_id=UUID(int=7))
        local = CommandBus(memory_stores.events, Aggregates(memory_stores.events), [BANK])
        expected = (
            CommandRejected,
            AggregateNotFoundError,
            StaleVersionError,
            CommandIdReusedError,
            PayloadError,
        )
        with pytest.raises(expected) as here:
            local.dispatch(wanted)
        with pytest.raises(type(here.value)) as there:
            remote.dispatch(wanted)
        assert type(there.value) is type(here.value)
        assert str(there.value) == str(here.value)
        assert vars(there.value) == vars(here.value)

    def test_a_command_that_is_not_in_the_registry_is_unknown(
        self, remote: RemoteCommandBus, workers: Workers
    ) -> None:
        @command("bank.account.rob", creates=True)
        class Rob(CommandPayload, frozen=True):
            pass

        workers.start()
        with pytest.raises(UnknownCommandError, match=r"bank\.account\.rob"):
            remote.dispatch(Command.new(Rob()))

    def test_an_error_that_nobody_foresaw_is_logged_where_it_was_and_told(
        self, remote: RemoteCommandBus, workers: Workers, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(payload: Open, id: UUID, work: UnitOfWork) -> None:
            raise ZeroDivisionError("by zero")

        workers.start(module=Module(BANK.events, {**BANK.handlers, Open: fail}))
        wanted = Command.new(Open("Ada"))
        with pytest.raises(WorkerFailedError, match=f"{wanted.id}.*ZeroDivisionError: by zero"):
            remote.dispatch(wanted)
        [record] = [r for r in caplog.records if r.name == "shop.eventsourcing.worker"]
        assert str(wanted.id) in record.getMessage()
        assert record.exc_info is not None

    def test_the_registry_is_that_of_the_command_bus(
        self, remote: RemoteCommandBus, memory_stores: Stores
    ) -> None:
        local = CommandBus(memory_stores.events, Aggregates(memory_stores.events), [BANK])
        assert list(remote.registry) == list(local.registry)


class TestDoneOnce:
    def test_a_lost_answer_is_asked_for_again_under_the_same_id(
        self, memory_stores: Stores, requests: Requests, workers: Workers
    ) -> None:
        workers.start()
        memory_stores.events.append(booked(ADA, 10))
        bus = LosesAnswers(requests(), 2)
        remote = RemoteCommandBus(bus, memory_stores.events, [BANK])

        result = remote.dispatch(Command.new(Deposit(5), ADA.id))

        assert [event.data for event in result.events] == [Deposited(5)]
        assert len(bus.sent) == 3
        assert len({message.id for message in bus.sent}) == 1
        assert memory_stores.events.head() == 3

    def test_a_refusal_that_got_lost_is_judged_anew(
        self, memory_stores: Stores, requests: Requests, workers: Workers
    ) -> None:
        workers.start()
        memory_stores.events.append(booked(ADA, 10))
        remote = RemoteCommandBus(LosesAnswers(requests(), 1), memory_stores.events, [BANK])
        with pytest.raises(CommandRejected, match="funds-insufficient"):
            remote.dispatch(Command.new(Withdraw(1000), ADA.id))

    def test_a_worker_that_never_answers_is_waited_for_until_the_time_is_over(
        self, remote: RemoteCommandBus, workers: Workers, memory_stores: Stores
    ) -> None:
        gate = Gate()
        workers.start(module=gate.module, threads=4)
        wanted = Command.new(Open("Ada"))
        began = time.monotonic()
        with pytest.raises(OutcomeUnknownError) as caught:
            remote.dispatch(wanted, timeout=1.5)
        assert 1.5 <= time.monotonic() - began < 3
        assert caught.value.command_id == wanted.id
        assert str(wanted.id) in str(caught.value)
        assert gate.waiting == [wanted.id] * 2, "it was sent again in the meantime"

        gate.open.set()
        assert remote.dispatch(wanted).replayed in {True, False}
        workers.close()
        assert memory_stores.events.head() == 1

    def test_when_the_only_worker_goes_meanwhile_the_outcome_is_unknown(
        self, memory_stores: Stores, requests: Requests
    ) -> None:
        remote = RemoteCommandBus(LosesAnswersOfTheDead(requests()), memory_stores.events, [BANK])
        with pytest.raises(OutcomeUnknownError):
            remote.dispatch(Command.new(Open("Ada")), timeout=0.3)

    def test_whoever_stops_does_not_wait_for_the_time_to_be_over(
        self, remote: RemoteCommandBus, workers: Workers, eventually: Eventually
    ) -> None:
        gate = Gate()
        workers.start(module=gate.module)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(remote.dispatch, Command.new(Open("Ada")), timeout=60)
            eventually(lambda: gate.waiting)
            remote.stop()
            with pytest.raises(OutcomeUnknownError):
                waiting.result(timeout=5)
        gate.open.set()


class LosesAnswersOfTheDead(Wrapped):
    """The first request reaches a worker that dies of it; there is no other one."""

    def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        if not self.sent:
            self.sent.append(msgspec.json.decode(data, type=CommandMessage))
            raise NoAnswerError("no answer")
        return super().request(subject, data, timeout=timeout)


class TestWorkers:
    def test_without_a_worker_it_is_said_at_once(self, remote: RemoteCommandBus) -> None:
        began = time.monotonic()
        with pytest.raises(NoWorkerError, match=r"no worker took bank\.account\.open on"):
            remote.dispatch(Command.new(Open("Ada")))
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
        old = Module(BANK.events, {Deposit: BANK.handlers[Deposit]})
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
        import shop.eventsourcing.command_wire as wire
        from shop.eventsourcing import worker

        class Ahead(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override] # as it is used
                return datetime.now(UTC) + timedelta(minutes=1)

        workers.start()
        monkeypatch.setattr(worker, "datetime", Ahead)
        monkeypatch.setattr(wire, "datetime", Ahead)
        bus = Wrapped(requests())
        remote = RemoteCommandBus(bus, memory_stores.events, [BANK])
        for _ in range(3):
            assert remote.dispatch(Command.new(Open("Ada"))).version == 1
        assert len(bus.sent) == 4, "the first one was sent twice"
        assert "the clock of a worker is" in caplog.text

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
        for data in (b"nonsense", b"{}", b"\xff"):
            assert b'"failed"' in requests().request(subject, data, timeout=5)
        assert "cannot be read" in caplog.text
        remote.dispatch(Command.new(Open("Ada")))


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
        self, small: tuple[RemoteCommandBus, Workers], memory_stores: Stores
    ) -> None:
        def open_thrice(payload: Open, id: UUID, work: UnitOfWork) -> None:
            work.find(Account, id).record(Opened("x" * 3000))

        remote, workers = small
        workers.start(module=Module(BANK.events, {Open: open_thrice}))
        result = remote.dispatch(Command.new(Open("Ada")))
        assert result.events == tuple(memory_stores.events.read(Query()))
        assert result.version == 1


def test_nothing_is_logged_when_all_is_well(
    remote: RemoteCommandBus, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.start()
    remote.dispatch(Command.new(Open("Ada")))
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
