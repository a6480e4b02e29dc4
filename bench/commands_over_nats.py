"""Commands carried out by another process, beside nats-py asking another process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TypeVar
from uuid import UUID

import nats

from bench.measure import Bench, Row, Samples, as_served, rate_of_threads
from bench.sample import create
from shop.backends.memory import MemoryEventStore
from shop.backends.nats import Access, NatsConnection, NatsRequests
from shop.backends.nats.loop import EventLoopThread
from shop.bootstrap import MODULES, event_registry
from shop.eventsourcing import DelegatingStore, RemoteCommandBus
from shop.eventsourcing.commands.wire import CommandMessage, encode_message
from shop.eventsourcing.stores.store import StoreInfo

T = TypeVar("T")

_SECONDS = 0.4
_ROUNDS = 12
_ENOUGH = 12_000
"""What is made before the clock starts: more than a round can ask."""
_TIMEOUT = 10.0


def run(bench: Bench, address: str) -> Iterator[Row]:
    """One caller and eight: what the way costs a command without work, and one with a commit."""
    for callers, threads, tasks in ((1, "1 thread", "1 task"), (8, "8 threads", "8 tasks")):
        bench.say(f"nats: commands of {threads}, in turns with raw requests")
        samples = _measure(bench, address, callers)
        for what, ours, raw, least in (
            (f"command in memory, {threads} (beside: echo, {threads})", "memory", "echo", 0.6),
            (f"the same (beside: echo, {tasks} of one loop)", "memory", "loop", 0.6),
            (f"durable command, {threads} (beside: raw, as durable)", "disk", "work", 0.6),
            (f"the same (beside: echo, {tasks} of one loop)", "disk", "loop", None),
        ):
            ratio = samples.ratio(ours, raw)
            yield Row(
                theme="nats",
                what=what,
                unit="commands/s",
                ours=samples.typical(ours),
                raw=samples.typical(raw),
                ratio=ratio,
                target="" if least is None else f">= {least}",
                met=None if least is None else ratio >= least,
            )


def _measure(bench: Bench, address: str, callers: int) -> Samples:
    with (
        ExitStack() as answering,
        NatsConnection(Access(servers=[address])) as connection,
    ):
        connection.wait_connected(10)

        def answerer(how: str, url: str) -> UUID:
            return answering.enter_context(_answerer(how, url, address))

        def worker(url: str) -> Callable[[], float]:
            store = _Elsewhere(answerer("worker", url))
            remote = RemoteCommandBus(NatsRequests(connection), store, MODULES)
            return as_served(lambda: _rate(remote.dispatch, create, callers))

        def file(name: str) -> str:
            return f"sqlite:///{bench.directory / f'{callers}-{name}.db'}"

        # The quicker one, for so many callers.
        work = "dispatch" if callers == 1 else "threads"
        answerer("echo", "memory://")
        answerer(work, file("raw"))
        return bench.in_turns(
            {
                "loop": lambda: asyncio.run(_ask_on_a_loop(address, "echo", callers)),
                "echo": lambda: _ask_in_threads(address, "echo", callers),
                "memory": worker("memory://"),
                "work": lambda: asyncio.run(_ask_on_a_loop(address, work, callers)),
                "disk": worker(file("ours")),
            },
            rounds=_ROUNDS,
        )


@contextmanager
def _answerer(how: str, url: str, address: str) -> Iterator[UUID]:
    """A process of :mod:`bench.answerer`; gives the identity of its store once it listens."""
    command = [sys.executable, "-m", "bench.answerer", how, url, address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield UUID(process.stdout.readline().strip())


class _Elsewhere(DelegatingStore):
    """The store of another process, of which no more is known here than which one it is."""

    def __init__(self, identity: UUID) -> None:
        super().__init__(MemoryEventStore(event_registry()))
        self._identity = identity

    def info(self) -> StoreInfo:
        return StoreInfo(self._identity, frozenset())


def _rate(action: Callable[[T], object], make: Callable[[], T], callers: int) -> float:
    items = [[make() for _ in range(_ENOUGH // callers)] for _ in range(callers)]
    return rate_of_threads(action, items, seconds=_SECONDS)


def _message() -> bytes:
    """As long as ours."""
    command = create()
    payload = encode_message(command.payload)
    deadline = datetime.now(UTC) + timedelta(seconds=_TIMEOUT)
    return encode_message(CommandMessage.of(command, payload, timeout=_TIMEOUT, deadline=deadline))


async def _ask_on_a_loop(address: str, subject: str, callers: int) -> float:
    """So many tasks of one loop: what nats-py can do at best."""
    messages = iter([_message() for _ in range(_ENOUGH)])
    client = await nats.connect(address)
    await client.request(subject, next(messages), timeout=_TIMEOUT)  # makes it listen for answers
    answered = 0
    began = perf_counter()

    async def ask() -> None:
        nonlocal answered
        for message in messages:
            await client.request(subject, message, timeout=_TIMEOUT)
            answered += 1
            if perf_counter() - began >= _SECONDS:
                return

    await asyncio.gather(*(ask() for _ in range(callers)))
    seconds = perf_counter() - began
    await client.close()
    return answered / seconds


def _ask_in_threads(address: str, subject: str, callers: int) -> float:
    """So many threads that have a loop ask, which is how a program of threads has nats-py."""
    loop = EventLoopThread("raw")
    loop.start()
    client = loop.run(nats.connect(address), timeout=_TIMEOUT)

    def ask(message: bytes) -> None:
        loop.run(client.request(subject, message, timeout=_TIMEOUT), timeout=_TIMEOUT)

    try:
        ask(_message())
        return _rate(ask, _message, callers)
    finally:
        loop.run(client.close(), timeout=_TIMEOUT)
        loop.close(_TIMEOUT)
