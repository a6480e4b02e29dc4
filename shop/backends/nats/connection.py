"""A connection to NATS for a program of threads: it comes back by itself, whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

import nats.errors
from nats.aio.client import Client

from shop.backends.nats.client import Message, StrictClient
from shop.backends.nats.inbox import Inbox
from shop.backends.nats.link import Link
from shop.backends.nats.listening import Listening
from shop.backends.nats.loop import EventLoopThread
from shop.backends.nats_settings import Access
from shop.eventsourcing.errors import (
    BusClosedError,
    BusError,
    BusUnavailableError,
    NoAnswerError,
    NoResponderError,
)

T = TypeVar("T")

_CONFIRMING = 1.0
"""Seconds that a server may take to say that it knows what is listened to: it may be silent."""


class NatsConnection:
    """A connection to one of several servers, made in the background and anew when it breaks.

    ``purpose`` is what the log and the server are told that it is for. ``echo`` tells whether what
    is published through it comes back to its own subscriptions. ``timeout``, in seconds, is how
    long a server may take to answer when connecting. After
    ``close``, :meth:`request`, :meth:`listen` and :meth:`run` raise :class:`BusClosedError`.
    Methods may be called by any thread but the loop's, unless they say otherwise. It owns the
    loop's thread, unless it was given a ``loop``.
    """

    def __init__(
        self,
        access: Access,
        *,
        purpose: str = "messages",
        echo: bool = True,
        timeout: float = 5.0,
        loop: EventLoopThread | None = None,
    ) -> None:
        self._access = access
        self._timeout = timeout
        self._link = Link(
            access, purpose=purpose, echo=echo, timeout=timeout, on_break=self._fail_all
        )
        self._inbox: Inbox | None = None
        self._opening = threading.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._spawned: set[asyncio.Task[None]] = set()
        self._closed = False
        self._owns_loop = loop is None
        self._others: list[NatsConnection] = []
        self._loop = loop or EventLoopThread("nats")
        if self._owns_loop:
            self._loop.start()
        self._loop.call(self._link.begin)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._link.problem is None

    @property
    def problem(self) -> str | None:
        """Why there is no connection; ``None`` while there is one."""
        return self._link.problem

    @property
    def connects(self) -> int:
        """How often a connection was made."""
        return self._link.connects

    def another(self, purpose: str, *, echo: bool) -> NatsConnection:
        """A second connection to the same servers, on the same loop. Closing this one closes it."""
        other = NatsConnection(
            self._access, purpose=purpose, echo=echo, timeout=self._timeout, loop=self._loop
        )
        self._others.append(other)
        return other

    def on_connect(self, function: Callable[[], None]) -> None:
        """Have the loop call a function whenever a connection was made; it must not block."""
        self._link.on_connect.append(function)

    def wait_connected(self, timeout: float) -> bool:
        """Wait until there is a connection, at most ``timeout`` seconds; whether there is one."""
        self._link.wait_for(lambda: self.connected or self._closed, timeout)
        return self.connected

    def pause(self, seconds: float) -> None:
        """Wait for so many seconds, or until :meth:`close`."""
        self._link.wait_for(lambda: self._closed, seconds)

    def request(self, subject: str, data: bytes, *, timeout: float) -> Message:
        """Send a message and return the answer to it.

        - :class:`NoResponderError`, at once: nobody listens
        - :class:`BusUnavailableError`: there is no connection
        - :class:`MessageTooLargeError`: it was not sent
        - :class:`NoAnswerError`: none came within ``timeout`` seconds or before the connection
          broke
        """
        inbox = self._inbox or self._open_inbox()
        with inbox.expect() as answer:
            # Looked at only now: from here on, the answer is told when the connection breaks.
            client = self._link.client
            if self._closed:
                raise BusClosedError("the connection is closed")
            if client is None:
                raise BusUnavailableError(f"NATS: {self._link.problem}")
            client.post(subject, data, reply=answer.subject)
            return answer.wait(timeout)

    def listen(
        self, subject: str, deliver: Callable[[Message], None], *, group: str = ""
    ) -> Listening:
        """Have the messages of a subject, which may hold wildcards, handed to ``deliver``.

        That is called on the loop, so it must not block nor run anybody else's code: it puts the
        message where another thread takes it. Of all who listen in the same ``group``, one gets
        each message. What is published after this returns is heard; without a connection, or with
        a server that is silent for a second, what is published once there is one that is not.
        """
        return self.listen_all([subject], deliver, group=group)

    def listen_all(
        self, subjects: Sequence[str], deliver: Callable[[Message], None], *, group: str = ""
    ) -> Listening:
        """As :meth:`listen`, for several subjects at once."""
        listening = Listening(subjects, group, deliver, self.drop)

        async def add() -> None:
            await self._add(listening)
            await self._confirm()

        self._run(add(), timeout=self._timeout + 5)
        return listening

    def drop(self, listening: Listening) -> None:
        """As :meth:`Listening.close`."""

        async def remove() -> None:
            self._link.listenings.discard(listening)
            client = self._link.client
            if client is not None:
                with suppress(nats.errors.Error, TimeoutError):
                    await listening.detach(client)
            # The server may still give a member of a group what comes before it knows.
            await self._confirm()

        with suppress(BusClosedError):
            self._run(remove(), timeout=self._timeout + 5)

    async def drain(self, listening: Listening) -> None:
        """End it at the server, and then here, once all that was on its way has been handed over.

        On the loop only.
        """
        self._link.listenings.discard(listening)
        client = self._link.client
        if client is not None:
            with suppress(nats.errors.Error, TimeoutError):
                await listening.drain(client)

    def run(self, use: Callable[[Client], Coroutine[Any, Any, T]], *, timeout: float) -> T:
        """Run a coroutine of this package with the client and return its result.

        nats-py's errors are translated as those of :meth:`request`; so are a time-out after
        ``timeout`` seconds and a connection that breaks meanwhile.
        """
        return self._run(self._use(use, timeout), timeout=timeout + 5)

    def spawn(self, use: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        """As :meth:`run`, but without waiting for its end, which may be at any time.

        It is not run where there is no connection, and cancelled when that breaks. Errors of the
        bus that it raises are dropped. May also be called on the loop.
        """

        async def guarded() -> None:
            with suppress(BusError):
                await self._use(use, None)

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(guarded())
            self._spawned.add(task)  # the loop itself would forget it
            task.add_done_callback(self._spawned.discard)

        self._loop.call(begin)

    def call(self, function: Callable[[], object]) -> None:
        """Have the loop call a function of this package soon; it must not block. By any thread."""
        self._loop.call(function)

    @property
    def client(self) -> StrictClient | None:
        """The client of the connection there is. Only ``post`` may be used outside the loop."""
        return self._link.client

    def close(self, timeout: float = 2.0) -> None:
        """Send what was published, then end the connection and its thread; idempotent.

        Connections that came from :meth:`another` are ended first. All of it takes at most
        ``timeout`` seconds, also when the server is gone or silent.
        """
        if self._closed:
            return
        self._closed = True
        until = time.monotonic() + timeout
        for other in self._others:
            other.close((until - time.monotonic()) / 2)
        left = until - time.monotonic()
        with suppress(TimeoutError, BusClosedError):
            self._loop.run(self._link.end(left / 2), timeout=left)
        if self._owns_loop:
            self._loop.close(max(0.1, until - time.monotonic()))
        self._link.tell("closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, T], *, timeout: float) -> T:
        if self._closed:
            coroutine.close()
            raise BusClosedError("the connection is closed")
        try:
            return self._loop.run(coroutine, timeout=timeout)
        except TimeoutError as error:  # what nats-py waits with may swallow a time-out of its own
            raise NoAnswerError(f"NATS: no answer within {timeout:g} s") from error

    async def _use(
        self, use: Callable[[Client], Coroutine[Any, Any, T]], timeout: float | None
    ) -> T:
        client = self._link.client
        if client is None:
            raise BusUnavailableError(f"NATS: {self._link.problem}")
        task = asyncio.current_task()
        assert task is not None, "it runs as a task of the loop"
        self._under_way.add(task)
        try:
            async with asyncio.timeout(timeout):
                return await use(client)
        except nats.errors.NoRespondersError as error:
            raise NoResponderError("NATS: nobody answers requests for this subject") from error
        except TimeoutError as error:
            seconds = self._timeout if timeout is None else timeout
            raise NoAnswerError(f"NATS: no answer within {seconds:g} s") from error
        except nats.errors.Error as error:
            raise NoAnswerError(f"NATS: {error}") from error
        except asyncio.CancelledError:
            if self._link.client is client or self._closed:
                raise
            raise NoAnswerError("NATS: the connection broke meanwhile") from None
        finally:
            self._under_way.discard(task)

    async def _add(self, listening: Listening) -> None:
        self._link.listenings.add(listening)
        client = self._link.client
        if client is not None:
            with suppress(nats.errors.Error, TimeoutError):  # it is the connection that broke
                await listening.attach(client)

    async def _confirm(self) -> None:
        """Wait until the server knows what is listened to, a second at most."""
        client = self._link.client
        if client is not None:
            with suppress(nats.errors.Error, TimeoutError):
                await client.flush(timeout=_CONFIRMING)  # type: ignore[arg-type]  # a float will do

    def _open_inbox(self) -> Inbox:
        with self._opening:
            if self._inbox is None:
                inbox = Inbox()
                listening = Listening([inbox.subject], "", inbox.deliver, self.drop)
                # Not confirmed: the server hears of it before it hears of any request.
                self._run(self._add(listening), timeout=self._timeout)
                self._inbox = inbox
            return self._inbox

    def _fail_all(self) -> None:
        """Tell all who wait for the server that the connection broke. On the loop only."""
        if self._inbox is not None:
            self._inbox.fail(
                BusClosedError("the connection was closed meanwhile")
                if self._closed
                else NoAnswerError("NATS: the connection broke meanwhile")
            )
        for task in self._under_way:
            task.cancel()
