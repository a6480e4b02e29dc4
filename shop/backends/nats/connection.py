"""A connection to NATS for a program of threads: it comes back by itself, whatever happens.

nats-py reconnects by itself too, but gives up for good where the server closes the connection with
an error, buffers what it should refuse meanwhile, and waits without end in places. So each of its
clients serves for one connection here, and a new one is made for the next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from shop.backends.nats.client import (
    Message,
    StrictClient,
    let_go,
    read_little,
    tls_context,
)
from shop.backends.nats.inbox import Inbox
from shop.backends.nats.loop import EventLoopThread
from shop.backends.nats_settings import Access
from shop.eventsourcing.errors import (
    BusClosedError,
    BusError,
    BusUnavailableError,
    NoAnswerError,
    NoResponderError,
)
from shop.eventsourcing.retry import Backoff

logger = logging.getLogger(__name__)

T = TypeVar("T")

PING_INTERVAL = 5
"""Seconds. A server that answers nothing is given up after three times that."""
_TOLD = 100
"""How many different errors of one connection that goes on are logged, each once."""
_CONFIRMING = 1.0
"""Seconds that a server may take to say that it knows what is listened to: it may be silent."""


class Listening:
    """Messages of some subjects, handed over as they come, until it is closed."""

    def __init__(
        self,
        connection: NatsConnection,
        subjects: Sequence[str],
        group: str,
        deliver: Callable[[Message], None],
    ) -> None:
        self._connection = connection
        self._subjects = subjects
        self._group = group
        self._deliver = deliver
        self._attached: tuple[Client, list[Subscription]] | None = None

    def close(self) -> None:
        """End it, and wait about a second at most for the server to know of it; idempotent."""
        self._connection.drop(self)

    async def attach(self, client: StrictClient) -> None:
        """Have this client's server send the messages. On the loop only."""
        group, deliver = self._group, self._deliver
        self._attached = (client, [await client.hear(s, group, deliver) for s in self._subjects])

    async def detach(self, client: Client) -> None:
        """Have this client's server send no more messages. On the loop only."""
        for subscription in self._subscriptions(client):
            await subscription.unsubscribe()

    async def drain(self, client: Client) -> None:
        """As :meth:`detach`, but hand over what is on its way. On the loop only."""
        drains = (subscription.drain() for subscription in self._subscriptions(client))  # type: ignore[no-untyped-call]  # nats-py has no types
        await asyncio.gather(*drains)

    def _subscriptions(self, client: Client) -> Sequence[Subscription]:
        return self._attached[1] if self._attached and self._attached[0] is client else ()


class NatsConnection:
    """A connection to one of several servers, made in the background and anew when it breaks.

    ``echo`` tells whether what is published through it comes back to its own subscriptions.
    ``timeout``, in seconds, is how long a server may take to answer when connecting. Each method
    raises :class:`BusClosedError` after ``close``. All of them may be called by any thread but
    the loop's. It owns the loop's thread, unless it was given a ``loop``.
    """

    def __init__(
        self,
        access: Access,
        *,
        echo: bool = True,
        timeout: float = 5.0,
        loop: EventLoopThread | None = None,
    ) -> None:
        self._access = access
        self._echo = echo
        self._timeout = timeout
        self._client: StrictClient | None = None
        self._inbox: Inbox | None = None
        self._opening = threading.Lock()
        self._lost = asyncio.Event()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._spawned: set[asyncio.Task[None]] = set()
        self._listenings: set[Listening] = set()
        self._changed = threading.Condition()
        self._problem: str | None = "not connected yet"
        self._error: Exception | None = None
        self._closed = False
        self._connects = 0
        self._on_connect: list[Callable[[], None]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._owns_loop = loop is None
        self._others: list[NatsConnection] = []
        self._loop = loop or EventLoopThread("nats")
        if self._owns_loop:
            self._loop.start()
        self._loop.call(self._begin)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._problem is None

    @property
    def problem(self) -> str | None:
        """Why there is no connection; ``None`` while there is one."""
        return self._problem

    @property
    def connects(self) -> int:
        """How often a connection was made."""
        return self._connects

    def another(self, *, echo: bool) -> NatsConnection:
        """A connection of its own to the same servers, on the same loop; closed before this."""
        other = NatsConnection(self._access, echo=echo, timeout=self._timeout, loop=self._loop)
        self._others.append(other)
        return other

    def on_connect(self, function: Callable[[], None]) -> None:
        """Call a function on the loop whenever a connection was made; it must not block."""
        self._on_connect.append(function)

    def wait_connected(self, timeout: float) -> bool:
        """Wait until there is a connection, at most ``timeout`` seconds; whether there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self.connected or self._closed, timeout)
            return self.connected

    def pause(self, seconds: float) -> None:
        """Wait, but not any longer than until the connection is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

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
            client = self._client  # looked at only now: who is expecting is told when it breaks
            if self._closed:
                raise BusClosedError("the connection is closed")
            if client is None:
                raise BusUnavailableError(f"NATS: {self._problem}")
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
        listening = Listening(self, subjects, group, deliver)
        self._run(self._add(listening, confirmed=True), timeout=self._timeout + 5)
        return listening

    def drop(self, listening: Listening) -> None:
        """As :meth:`Listening.close`."""

        async def remove() -> None:
            self._listenings.discard(listening)
            client = self._client
            if client is not None:
                with suppress(nats.errors.Error, TimeoutError):
                    await listening.detach(client)
                    # The server may still give a member of a group what comes before it knows.
                    await client.flush(timeout=_CONFIRMING)  # type: ignore[arg-type]  # a float will do

        with suppress(BusClosedError):
            self._run(remove(), timeout=self._timeout + 5)

    async def drain(self, listening: Listening) -> None:
        """End it at the server, and then here, once all that was on its way has been handed over.

        On the loop only.
        """
        self._listenings.discard(listening)
        client = self._client
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

        It is not run where there is no connection, and cancelled when that breaks. What it raises
        on purpose is not told to anybody. May also be called on the loop.
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
        """Have the loop call a function of this package soon; it must not block."""
        self._loop.call(function)

    @property
    def client(self) -> StrictClient | None:
        """The client of the connection there is. Only ``post`` may be used outside the loop."""
        return self._client

    def close(self, timeout: float = 2.0) -> None:
        """Send what was published, end the connection, its ``another`` and the thread; idempotent.

        Takes at most ``timeout`` seconds for that, also with the server gone or silent.
        """
        if self._closed:
            return
        self._closed = True
        until = time.monotonic() + timeout
        for other in self._others:
            other.close((until - time.monotonic()) / 2)
        left = until - time.monotonic()
        with suppress(TimeoutError, BusClosedError):
            self._loop.run(self._end(left / 2), timeout=left)
        if self._owns_loop:
            self._loop.close(max(0.1, until - time.monotonic()))
        with self._changed:
            self._problem = "closed"
            self._changed.notify_all()

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
        client = self._client
        if client is None:
            raise BusUnavailableError(f"NATS: {self._problem}")
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
            if self._client is client or self._closed:
                raise
            raise NoAnswerError("NATS: the connection broke meanwhile") from None
        finally:
            self._under_way.discard(task)

    async def _add(self, listening: Listening, *, confirmed: bool) -> None:
        self._listenings.add(listening)
        client = self._client
        if client is not None:
            with suppress(nats.errors.Error, TimeoutError):  # it is the connection that broke
                await listening.attach(client)
                if confirmed:
                    await client.flush(timeout=_CONFIRMING)  # type: ignore[arg-type]  # a float will do

    def _open_inbox(self) -> Inbox:
        with self._opening:
            if self._inbox is None:
                inbox = Inbox()
                listening = Listening(self, [inbox.subject], "", inbox.deliver)
                # The server hears of it before it hears of any request.
                self._run(self._add(listening, confirmed=False), timeout=self._timeout)
                self._inbox = inbox
            return self._inbox

    def _begin(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())

    async def _end(self, timeout: float) -> None:
        """Have the server take what was sent to it, and stop."""
        if self._client is not None:
            with suppress(nats.errors.Error, TimeoutError):
                await asyncio.wait_for(self._client.flush(timeout=10), timeout)
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper

    async def _keep_connected(self) -> None:
        backoff = Backoff(first=0.05, most=2.0)
        keeper = asyncio.current_task()
        assert keeper is not None, "it runs as a task of the loop"
        # Until Python 3.12, what nats-py waits with may swallow a cancellation.
        while not keeper.cancelling():
            self._error = None
            client = StrictClient(tls=self._access.tls)
            try:
                await self._connect(client)
                if keeper.cancelling():
                    return
                backoff.reset()
                while client.listens:
                    with suppress(TimeoutError):
                        # Not only until told: a client that closes may hang before it tells, and
                        # one that stops reading at what it does not understand never does.
                        await asyncio.wait_for(self._lost.wait(), 1.0)
                self._note(client.last_error)
            except (OSError, ValueError, nats.errors.Error) as error:
                self._note(error)
            except Exception as error:  # the connection must come back, whatever nats-py raises
                logger.exception("unexpected error of the connection to NATS")
                self._note(error)
            finally:
                self._client = None
                if self._inbox is not None:
                    self._inbox.fail(
                        BusClosedError("the connection was closed meanwhile")
                        if self._closed
                        else NoAnswerError("NATS: the connection broke meanwhile")
                    )
                for task in self._under_way:
                    task.cancel()
                await let_go(client)
            await asyncio.sleep(backoff.next_delay())

    async def _connect(self, client: StrictClient) -> None:
        access = self._access
        self._lost = lost = asyncio.Event()
        told: set[str] = set()

        async def closed() -> None:
            lost.set()

        async def failed(error: Exception) -> None:
            self._error = error
            broken = isinstance(error, (OSError, nats.errors.StaleConnectionError))
            if client.is_connected and not broken and str(error) not in told and len(told) < _TOLD:
                # It goes on, with less than was asked of it: such as a right that is missing.
                told.add(str(error))
                logger.error("NATS: %s", error, exc_info=error)

        await client.connect(
            [f"nats://{server}" for server in access.servers],
            name="shop",
            user=access.user,
            password=access.password,
            token=access.token,
            nkeys_seed=None if access.nkey_seed_file is None else str(access.nkey_seed_file),
            tls=tls_context(access),
            no_echo=not self._echo,
            connect_timeout=self._timeout,  # type: ignore[arg-type]  # a float will do
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ping_interval=PING_INTERVAL,
            error_cb=failed,
            closed_cb=closed,
        )
        if not client.listens:  # nats-py takes any first line for a welcome
            raise nats.errors.Error("the server said something else than PONG")
        read_little(client)
        attached: set[Listening] = set()
        while attached != (wanted := set(self._listenings)):  # they come and go in the meantime
            for listening in attached - wanted:
                await listening.detach(client)
            for listening in wanted - attached:
                await listening.attach(client)
            attached = wanted
            await client.flush(timeout=self._timeout)  # type: ignore[arg-type]  # a float will do
        self._error = None
        self._client = client
        self._connects += 1
        with self._changed:
            self._problem = None
            self._changed.notify_all()
        logger.info("connected to NATS at %s", client.connected_url and client.connected_url.netloc)
        for function in self._on_connect:
            function()

    def _note(self, error: Exception | None) -> None:
        if isinstance(error, nats.errors.NoServersError):
            error = self._error or error  # what it said before it had tried them all
        text = str(error or "it broke").removeprefix("nats: ")
        text = text or f"no answer within {self._timeout:g} s"
        problem = f"no connection to {', '.join(self._access.servers)}: {text}"
        if problem != self._problem:
            logger.warning("NATS: %s; trying again until there is one", problem)
        with self._changed:
            self._problem = problem
