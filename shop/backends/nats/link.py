"""The link to the servers: one connection after the other, each of a client of its own.

nats-py reconnects by itself too, but gives up for good where the server closes the connection with
an error, buffers what it should refuse meanwhile, and waits without end in places. So each of its
clients serves for one connection here, and a new one is made for the next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

import nats.errors

from shop.backends.nats.client import StrictClient, let_go, read_little, tls_context
from shop.backends.nats.listening import Listening
from shop.backends.nats_settings import Access
from shop.eventsourcing.retry import Backoff

logger = logging.getLogger(__name__)

PING_INTERVAL = 5
"""Seconds. A server that answers nothing is given up after three times that."""
_TOLD = 100
"""How many different errors of one connection that goes on are logged, each once."""


class Link:
    """Keeps up a connection to one of several servers.

    Any thread may read ``client``, ``problem`` and ``connects``, and call :meth:`tell` and
    :meth:`wait_for`; all else is for the loop alone.
    """

    def __init__(
        self,
        access: Access,
        *,
        purpose: str,
        echo: bool,
        timeout: float,
        on_break: Callable[[], None],
    ) -> None:
        """``on_break`` is called on the loop when a connection broke, or could not be made."""
        self._access = access
        self._purpose = purpose
        self._echo = echo
        self._timeout = timeout
        self._on_break = on_break
        self.client: StrictClient | None = None
        """The client of the connection there is. Other threads may only ``post``."""
        self.problem: str | None = "not connected yet"
        """Why there is no connection; ``None`` while there is one."""
        self.connects = 0
        """How often a connection was made."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # entered by its lock, as in EventQueue
        self.listenings: set[Listening] = set()
        """What every new client is to listen to."""
        self.on_connect: list[Callable[[], None]] = []
        """Called whenever a connection was made."""
        self._lost = asyncio.Event()
        self._error: Exception | None = None
        self._keeper: asyncio.Task[None] | None = None

    def tell(self, problem: str | None) -> None:
        """Say why there is no connection, or that there is one, and wake those who wait."""
        with self._lock:
            self.problem = problem
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait until a condition holds, at most ``timeout`` seconds: what is told may make it."""
        with self._lock:
            self._changed.wait_for(condition, timeout)

    def begin(self) -> None:
        """Connect soon, and again whenever the connection breaks."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep_connected())

    async def end(self, timeout: float) -> None:
        """Wait until the server has what was sent, at most ``timeout`` seconds; then disconnect."""
        if self.client is not None:
            with suppress(nats.errors.Error, TimeoutError):
                await asyncio.wait_for(self.client.flush(timeout=10), timeout)
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
                self.client = None
                self._on_break()
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
                logger.error("NATS (%s): %s", self._purpose, error, exc_info=error)

        await client.connect(
            [f"nats://{server}" for server in access.servers],
            name=f"shop: {self._purpose}",
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
        while attached != (wanted := set(self.listenings)):  # they come and go in the meantime
            for listening in attached - wanted:
                await listening.detach(client)
            for listening in wanted - attached:
                await listening.attach(client)
            attached = wanted
            await client.flush(timeout=self._timeout)  # type: ignore[arg-type]  # a float will do
        self._error = None
        self.client = client
        self.connects += 1
        self.tell(None)
        server = client.connected_url and client.connected_url.netloc
        logger.info("connected to NATS at %s for %s", server, self._purpose)
        for function in self.on_connect:
            function()

    def _note(self, error: Exception | None) -> None:
        if isinstance(error, nats.errors.NoServersError):
            error = self._error or error  # what it said before it had tried them all
        text = str(error or "it broke").removeprefix("nats: ")
        text = text or f"no answer within {self._timeout:g} s"
        problem = f"no connection to {', '.join(self._access.servers)}: {text}"
        if problem != self.problem:
            logger.warning(
                "NATS: %s; trying again until there is one for %s", problem, self._purpose
            )
        self.tell(problem)
