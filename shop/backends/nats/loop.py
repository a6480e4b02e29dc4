"""The thread that runs the event loop of an asyncio client for a program of threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from shop.eventsourcing.errors import BusClosedError
from shop.eventsourcing.threads import BackgroundThread

T = TypeVar("T")


class _EventLoop(asyncio.SelectorEventLoop):
    """Looks names of hosts up in daemon threads.

    asyncio does so in threads that Python waits for at its end: a name server that is silent would
    hold up the end of the process, for half a minute and more.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: int) -> list[Any]:
        """As :func:`socket.getaddrinfo`."""
        found: Future[list[Any]] = Future()

        def look_up() -> None:
            with suppress(InvalidStateError):  # nobody waits any more
                try:
                    found.set_result(socket.getaddrinfo(host, port, **hints))
                except (OSError, UnicodeError) as error:
                    found.set_exception(error)

        threading.Thread(target=look_up, name="nats-lookup", daemon=True).start()
        return await asyncio.wrap_future(found)


class EventLoopThread:
    """Owns a thread and the event loop that runs in it, from ``start`` to ``close``.

    Only code of this package runs on the loop, and none of it blocks: users of the package
    stay in their own threads and wait there. All methods may be called by any other thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = _EventLoop()
        self._thread = BackgroundThread(name, self._run, on_stop=self._stop)
        self._started = False

    def start(self) -> None:
        """Start the thread. Once."""
        self._started = True
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Have the loop call a function soon, without waiting for it.

        Does nothing once the loop is closed.
        """
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def run(self, coroutine: Coroutine[Any, Any, T], *, timeout: float) -> T:
        """Run a coroutine on the loop and return its result, or raise what it raises.

        Raises ``TimeoutError`` after ``timeout`` seconds, and cancels it then;
        :class:`BusClosedError` where the loop has ended, or ends meanwhile.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as error:
            coroutine.close()
            raise BusClosedError("the connection is closed") from error
        try:
            return future.result(timeout)
        except CancelledError as error:
            raise BusClosedError("the connection was closed meanwhile") from error
        finally:
            future.cancel()

    def close(self, timeout: float) -> bool:
        """Cancel what runs on the loop and end the thread; idempotent.

        Waits at most ``timeout`` seconds, and returns whether the thread ended.
        """
        ended = self._thread.close(timeout)
        if not self._started:
            self._loop.close()
        return ended

    def _stop(self) -> None:
        self.call(self._loop.stop)

    def _run(self, stopping: threading.Event) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            if not stopping.is_set():
                loop.run_forever()
        finally:
            # The threads that wait are told; the second turn is for what came meanwhile.
            for _ in range(2):
                tasks = asyncio.all_tasks(loop)
                for task in tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            asyncio.set_event_loop(None)
            loop.close()
