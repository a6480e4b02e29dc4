"""One database and its connections, set up on first use."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from shop.backends.postgres.connections import Connection, Connections, Row
from shop.backends.postgres.errors import translation
from shop.backends.postgres.names import Names
from shop.backends.postgres.setup import (
    create_database,
    database_exists,
    schema_version,
    set_up,
)
from shop.eventsourcing.errors import StoreError

Parameters = Sequence[Any] | Mapping[str, Any]


class Database:
    """The tables of one store in a PostgreSQL database. Thread-safe.

    Nothing is done before the first use, which makes whatever is missing, the database included:
    every method raises :class:`StoreUnavailableError` as long as the server cannot be reached, and
    :class:`StoreFormatError` where the tables are not this program's or from a newer version.
    """

    def __init__(
        self,
        conninfo: str,
        place: str,
        *,
        schema: str = "shop",
        prefix: str = "",
        pool_size: int = 16,
        timeout: float = 5.0,
    ) -> None:
        """``place`` is what errors call it: without a password. ``timeout`` is in seconds."""
        self.names = Names(schema, prefix)
        self.place = place
        self.timeout = timeout
        self._conninfo = conninfo
        self._connections = Connections(conninfo, place, size=pool_size, timeout=timeout)
        self._setting_up = threading.Lock()
        self._ready = False
        self.before_close = ExitStack()
        """What is done first when the database is closed."""

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection, given back at the end. Errors come out as the toolkit's."""
        if not self._ready:
            self._set_up()
        with self._connections.one() as connection:
            try:
                yield connection
            except psycopg.Error as error:
                raise self.translation(error) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection within a transaction, which ends with the block.

        It is not waited for until it is on disk: when the server crashes it may be lost, whole, and
        with everything after it.
        """
        with self.connection() as connection, connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = off")
            yield connection

    @contextmanager
    def defining(self) -> Iterator[Connection]:
        """A connection to define tables of read models by, in a transaction, one at a time.

        Appends go on meanwhile. Its answers are waited for however long they take: an index of a
        long table takes its time.
        """
        with self.connection() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (self.names.definitions_lock,))
            usual, connection.answer_timeout = connection.answer_timeout, None
            try:
                yield connection
            finally:
                connection.answer_timeout = usual

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one query and return all its rows."""
        with self.connection() as connection:
            return connection.execute(sql, parameters, binary=True).fetchall()

    def translation(self, error: psycopg.Error) -> StoreError:
        """The toolkit's error for one of PostgreSQL's."""
        return translation(error, self.place, self.timeout)

    def exists(self) -> bool:
        """Whether there is a store. Makes none, as all other methods do; raises as they do."""
        try:
            if not database_exists(self._conninfo, self.timeout):
                return False
            with self._connections.one() as connection:
                return schema_version(connection, self.names) > 0
        except psycopg.Error as error:
            raise self.translation(error) from error

    def close(self) -> None:
        """Finish the appends under way, and close the connections; idempotent."""
        self.before_close.close()
        self._connections.close()

    def _set_up(self) -> None:
        with self._setting_up:
            if self._ready:
                return
            self._connections.check_open()
            try:
                create_database(self._conninfo, self.timeout)
                connection = self._connections.connect()
                try:
                    connection.answer_timeout = None  # to migrate a long log takes its time
                    set_up(connection, self.names, self.place)
                finally:
                    connection.close()
            except psycopg.Error as error:
                raise self.translation(error) from error
            self._ready = True
