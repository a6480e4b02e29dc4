"""Connections to one database, shared by all threads.

psycopg_pool connects in the background: a caller learns that a server is down when its time is
over, and never learns why. Here a caller that finds no idle connection opens one itself, and learns
at once what is wrong.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.abc import RV, PQGen
from psycopg.types.string import ByteaBinaryLoader

from shop.backends.postgres.errors import translation
from shop.eventsourcing.errors import StoreClosedError, StoreUnavailableError
from shop.eventsourcing.stores.append import Kind

Row = tuple[Any, ...]

_SETTINGS = """
    SET TimeZone = 'UTC';
    -- Every query has an index that gives its rows in order, a page at a time. It stays with that
    -- index also where the server, by its statistics or for lack of them, would rather take all
    -- rows and sort them.
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_sort = off;
    SET plan_cache_mode = force_generic_plan;
    SET jit = off;
    -- A transaction has to see what others did before it got the order's lock.
    SET default_transaction_isolation = 'read committed';
    SET lock_timeout = {milliseconds};
    -- A session that holds the order's lock and falls silent loses it.
    SET idle_in_transaction_session_timeout = {milliseconds};
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'
"""


class Connection(psycopg.Connection[Row]):
    """A connection that waits for an answer of the server, but not for ever."""

    answer_timeout: float | None = None
    """Seconds. A server that is silent for longer is taken for lost, and so is the connection."""
    known_kinds: frozenset[Kind] = frozenset()
    """Kinds of events that it has stored: behind another one, there may be an older database."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, with ``answer_timeout`` unless another one is given."""
        try:
            return super().wait(gen, interval, timeout or self.answer_timeout)
        except errors._WaitTimeout as error:  # the only name it has
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"no answer within {timeout or self.answer_timeout:g} s"
            ) from error


class Connections:
    """At most ``size`` connections, in autocommit mode. Thread-safe.

    ``timeout`` is in seconds: for a connection, and for a lock of another session. An answer is
    waited for three times as long.
    """

    def __init__(self, conninfo: str, place: str, *, size: int, timeout: float) -> None:
        self.place = place
        self.timeout = timeout
        self._conninfo = conninfo
        self._size = size
        self._closed = False
        self._beginning = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._places = threading.BoundedSemaphore(self._size)
        # The one given back last is taken first: few are kept busy. Atomic in CPython.
        self._idle: deque[Connection] = deque()
        self._process = os.getpid()

    def _begin_anew(self) -> None:
        """Forget the connections in a process that was forked: its parent speaks on them."""
        with self._beginning:
            if os.getpid() != self._process:
                self._begin()

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """A connection for one thread, given back at the end.

        psycopg's errors come out as they are; those of getting one are the toolkit's.
        """
        self.check_open()
        if os.getpid() != self._process:
            self._begin_anew()
        if not self._places.acquire(timeout=self.timeout):
            raise StoreUnavailableError(
                f"no connection to {self.place} became free within {self.timeout:g} s:"
                f" all {self._size} are in use (see pool_size)"
            )
        connection = None
        try:
            connection = self._usable() or self.connect()
            yield connection
        finally:
            if connection is not None:
                self._give_back(connection)
            self._places.release()

    def check_open(self) -> None:
        """Raise :class:`StoreClosedError` after ``close``."""
        if self._closed:
            raise StoreClosedError(f"the connections to {self.place} are closed")

    def connect(self) -> Connection:
        """A new connection, which the caller closes. Raises the toolkit's errors."""
        connection = None
        try:
            connection = Connection.connect(
                self._conninfo,
                autocommit=True,
                client_encoding="UTF8",
                prepare_threshold=1,
                connect_timeout=max(1, round(self.timeout)),
            )
            connection.answer_timeout = 3 * self.timeout
            connection.adapters.register_loader("json", ByteaBinaryLoader)
            connection.execute(_SETTINGS.format(milliseconds=round(self.timeout * 1000)))
        except psycopg.Error as error:
            if connection is not None:
                connection.close()
            raise translation(error, self.place, self.timeout) from error
        return connection

    def close(self) -> None:
        """Close what is idle, and what is in use when it is given back; idempotent."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _usable(self) -> Connection | None:
        """An idle connection that the server has not ended: it would have said so by now."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            connection.close()
        if not connection.closed:
            self._idle.append(connection)
        if self._closed:
            self.close()
