"""A process that answers over NATS: ``bench.answerer HOW STORE ADDRESS``, until its stdin ends.

``worker`` carries commands out as the shop's workers do, on a core of its own. The others are
nats-py with nothing around it, and listen to the subject that they are called: ``echo`` says each
time what a worker would say, without having done anything, and ``dispatch`` and ``threads`` hand
the same commands to a command bus before they answer, on the loop or in as many threads as a worker
has.

It prints the identity of its store once it listens.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import nats
from nats.aio.msg import Msg

from bench.sample import create
from shop.backends.nats import Access, NatsConnection, NatsRequests
from shop.bootstrap import MODULES, event_registry, open_event_store
from shop.eventsourcing import Aggregates, CommandBus, CommandWorker, EventStore
from shop.eventsourcing.commands.wire import Done, decode_command, encode_message

_THREADS = 8


def main(how: str, url: str, address: str) -> None:
    """Answer until nobody is there to ask."""
    with (
        open_event_store(url, event_registry()) as store,
        ThreadPoolExecutor(_THREADS) as threads,
    ):
        commands = CommandBus(store, Aggregates(store), MODULES)
        if how == "worker":
            _work(commands, store, address)
            return
        identity = store.info().identity
        done = encode_message(Done.of(commands.dispatch(create())))

        def dispatch(data: bytes) -> bytes:
            message = decode_command(data)
            result = commands.dispatch(message.command(commands.registry), timeout=message.left())
            return encode_message(Done.of(result))

        async def echo(message: Msg) -> None:
            await message.respond(done)

        async def dispatch_here(message: Msg) -> None:
            await message.respond(dispatch(message.data))

        async def dispatch_in_thread(message: Msg) -> None:
            loop = asyncio.get_running_loop()
            await message.respond(await loop.run_in_executor(threads, dispatch, message.data))

        answers = {"echo": echo, "dispatch": dispatch_here, "threads": _apart(dispatch_in_thread)}
        asyncio.run(_answer(how, answers[how], address, identity))


def _work(commands: CommandBus, store: EventStore, address: str) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # who asks has the last one
    with NatsConnection(Access(servers=[address])) as connection:
        connection.wait_connected(10)
        worker = CommandWorker(commands, store, NatsRequests(connection), threads=_THREADS)
        worker.start()
        _ready(store.info().identity)
        sys.stdin.read()
        worker.close(5)


async def _answer(
    subject: str, answer: Callable[[Msg], Awaitable[None]], address: str, identity: UUID
) -> None:
    client = await nats.connect(address)
    await client.subscribe(subject, cb=answer)
    await client.flush()
    _ready(identity)
    await asyncio.to_thread(sys.stdin.read)
    await client.close()


def _apart(answer: Callable[[Msg], Awaitable[None]]) -> Callable[[Msg], Awaitable[None]]:
    """The same in a task for each message: nats-py has only one for all of a subscription."""
    under_way: set[asyncio.Future[None]] = set()

    async def begin(message: Msg) -> None:
        task = asyncio.ensure_future(answer(message))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return begin


def _ready(identity: UUID) -> None:
    print(identity, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
