"""Workers, and buses that misbehave, for tests of commands over a real NATS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from uuid import UUID

import msgspec
import pytest

from shop.backends.nats.connection import NatsConnection
from shop.backends.nats.requests import NatsRequests
from shop.backends.nats_settings import Access
from shop.eventsourcing import (
    Aggregates,
    CommandBus,
    Module,
    NoAnswerError,
    RemoteCommandBus,
    StoreError,
    UnitOfWork,
)
from shop.eventsourcing.buses.requests import Membership, Request, RequestBus
from shop.eventsourcing.commands.wire import CommandMessage
from shop.eventsourcing.commands.worker import CommandWorker
from tests.eventsourcing.bank import BANK, Account, Deposit, Open
from tests.eventsourcing.conftest import Stores

Requests = Callable[[], RequestBus]


def connected(address: str) -> NatsConnection:
    connection = NatsConnection(Access(servers=[address]))
    assert connection.wait_connected(10)
    return connection


def counted(remote: RemoteCommandBus) -> dict[str, float]:
    """What it tells of its commands, but for what did not happen."""
    return {
        name.removeprefix("commands_").removesuffix("_total"): figure
        for name, figure in remote.status().figures.items()
        if figure
    }


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


class Gate:
    """A handler that waits until it is let through, and tells who is waiting."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting: list[UUID] = []
        self.module = Module(BANK.aggregates, {**BANK.handlers, Open: self._handle})

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
    ) -> Membership:
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


class LosesTheStore(LosesAnswers):
    """The first request is carried out, and its answer gets lost; then the store does, for some."""

    def __init__(self, bus: RequestBus, count: int, error: StoreError) -> None:
        super().__init__(bus, 1)
        self._count = count
        self._error = error
        self.module = Module(BANK.aggregates, {**BANK.handlers, Deposit: self._handle})

    def _handle(self, payload: Deposit, id: UUID, work: UnitOfWork) -> None:
        if 1 < len(self.sent) <= 1 + self._count:
            raise self._error
        work.get(Account, id).deposit(payload.amount)


class LosesAnswersOfTheDead(Wrapped):
    """The first request reaches a worker that dies of it; there is no other one."""

    def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        if not self.sent:
            self.sent.append(msgspec.json.decode(data, type=CommandMessage))
            raise NoAnswerError("no answer")
        return super().request(subject, data, timeout=timeout)


@pytest.fixture
def requests(nats: str) -> Iterator[Requests]:
    """Makes a connection of its own to NATS, as each process has one."""
    with ExitStack() as opened:
        yield lambda: NatsRequests(opened.enter_context(connected(nats)))


@pytest.fixture
def workers(memory_stores: Stores, requests: Requests) -> Iterator[Workers]:
    workers = Workers(memory_stores, requests)
    yield workers
    workers.close()


@pytest.fixture
def remote(memory_stores: Stores, requests: Requests) -> RemoteCommandBus:
    return RemoteCommandBus(requests(), memory_stores.events, [BANK])
