"""One database file: a writing connection for all threads, and a pool of reading ones."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from binascii import a2b_base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from shop.backends.sqlite.query import FROM_BASE64
from shop.backends.sqlite.schema import APPLICATION_ID, MIGRATIONS, PAGE_SIZE
from shop.eventsourcing.errors import (
    StoreClosedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from shop.eventsourcing.group_commit import Entry, GroupCommit

T = TypeVar("T")
W = TypeVar("W")
Row = tuple[Any, ...]
Work = Callable[[sqlite3.Connection], T]

_READ_ONLY = "it is read-only: give this user the right to write to the file and its directory"
Handler = Callable[[sqlite3.Connection, Sequence[W]], Sequence[T | Exception]]
"""Does several pieces of work in one transaction and gives the outcome of each: a result, or an
error when that piece wrote nothing. What it raises undoes the whole transaction."""


class Database:
    """A SQLite file in WAL mode. Thread-safe; several processes may open the same file.

    Writers of this process share transactions (see :mod:`shop.eventsourcing.group_commit`), each
    durable when :meth:`write` returns: ``synchronous=FULL`` has the log on disk by then. Readers
    never wait for writers. A lock held by another process is waited for, ``timeout`` seconds.
    """

    def __init__(self, path: Path, *, timeout: float = 5.0) -> None:
        """Open the file, made and brought up to date as needed.

        Raises :class:`StoreFormatError` where it is not this program's, or from a newer version,
        and :class:`StoreUnavailableError` where it cannot be opened or written.
        """
        self.path = path
        self._timeout = timeout
        # Its pop and append are atomic in CPython, which spares every read two locks.
        self._idle_readers: list[sqlite3.Connection] = []
        self._closed = False
        with self._translated():
            self._writer = self._connect()
            try:
                self._writer.execute("BEGIN")  # so that what is checked is of one moment
                self._check_format()  # first of all: a foreign file is left as it is
                self._writer.execute("COMMIT")
                self._check_writable()
                self._use_wal()
                self._migrate()
            except BaseException:
                self._writer.close()
                raise
        self._group = GroupCommit(self._commit)

    def write(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction and return its result once that is durable.

        The transaction may be shared with other callers, and ``work`` may run in another thread.
        It fails alone: what it raises is raised here and undoes only its own changes. To that end
        it may run a second time, so it must have no effects outside the database.
        """
        return cast("T", self.write_with(_run_each, work))

    def write_with(
        self,
        handler: Handler[W, T],
        work: W,
        *,
        at_once: Handler[W, T] | None = None,
    ) -> T:
        """As :meth:`write`, with the work of concurrent callers done by one call of ``handler``.

        That is fewer statements than each alone would take. Each statement costs more than its
        time: after it, the thread queues for the interpreter's lock.

        ``at_once`` may do the same in a single statement, which is then a transaction of its own,
        or else give no outcomes and leave the work to ``handler``.
        """
        return cast("T", self._group.submit(_Task(handler, work, at_once)))

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one query and return all its rows."""
        return self.read_together((sql, parameters))[0]

    def read_together(self, *queries: tuple[str, Sequence[Any]]) -> list[list[Row]]:
        """Run several queries on one and the same state of the database."""
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            connection = self._new_reader()
        try:
            if len(queries) > 1:
                connection.execute("BEGIN")
            return [connection.execute(sql, values).fetchall() for sql, values in queries]
        except sqlite3.Error as error:
            raise self._translate(error) from error
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
            self._idle_readers.append(connection)
            if self._closed:
                self._close_readers()

    def _new_reader(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreClosedError(f"{self.path} is closed")
        with self._translated():
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
        return connection

    def close(self) -> None:
        """Finish the writes under way and close the file; idempotent."""
        self._group.close()
        self._closed = True
        self._close_readers()
        self._writer.close()

    def _close_readers(self) -> None:
        """Close what is idle. A reader that is in use comes here when it is given back."""
        with suppress(IndexError):
            while True:
                self._idle_readers.pop().close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # of a file that is still empty
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -16384")  # 16 MiB
            connection.create_function(FROM_BASE64, 1, a2b_base64, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_writable(self) -> None:
        """SQLite itself opens what it may not write to, and complains at the first write."""
        if not os.access(self.path, os.W_OK):
            raise StoreUnavailableError(f"cannot use {self.path}: {_READ_ONLY}")

    def _use_wal(self) -> None:
        """Switch a new file to WAL mode.

        SQLite does not wait for a process that is doing the same, but gives up at once.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.01)
            else:
                return

    def _migrate(self) -> None:
        """Bring the file's schema up to date, one process at a time."""
        if self._pragma("user_version") == len(MIGRATIONS):
            return
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            self._check_format()
            for migration in MIGRATIONS[self._pragma("user_version") :]:
                for statement in _statements(migration):
                    self._writer.execute(statement)
            self._writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._writer.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            self._writer.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _check_format(self) -> None:
        application, version = self._pragma("application_id"), self._pragma("user_version")
        if application != APPLICATION_ID:
            tables = self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if application or version or tables:
                raise StoreFormatError(f"{self.path} is a database of some other program")
        elif version > len(MIGRATIONS):
            raise StoreFormatError(
                f"{self.path} has schema version {version}, this program knows up to"
                f" {len(MIGRATIONS)}: it was written by a newer one"
            )

    def _pragma(self, name: str) -> int:
        return int(self._writer.execute(f"PRAGMA {name}").fetchone()[0])

    def _commit(self, group: Sequence[Entry[_Task]]) -> None:
        """Commit a group in one transaction, or each alone where one undid it for all.

        Raises where no transaction can be begun, which is nobody's fault and fails for all.
        """
        try:
            if self._done_at_once(group):
                return
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._translate(error) from error
        try:
            self._finish(group)
        except Exception as error:  # noqa: BLE001 - a caller's own, whatever it is
            if len(group) > 1:
                self._commit_one_by_one(group)
            else:
                group[0].error = error
                if isinstance(error, sqlite3.Error):
                    group[0].error = self._translate(error)
                    group[0].error.__cause__ = error

    def _done_at_once(self, group: Sequence[Entry[_Task]]) -> bool:
        """Whether all of the group could be done by one statement."""
        at_once = group[0].work.at_once
        if at_once is None or any(entry.work.at_once is not at_once for entry in group):
            return False
        outcomes = at_once(self._writer, [entry.work.work for entry in group])
        if outcomes:
            _settle(group, outcomes)
        return bool(outcomes)

    def _commit_one_by_one(self, group: Sequence[Entry[_Task]]) -> None:
        for entry in group:
            entry.result = entry.error = None
        for number, entry in enumerate(group):
            try:
                self._commit([entry])
            except StoreError as error:
                # The others would only wait in vain, one after the other.
                for left in group[number:]:
                    left.error = error
                return

    def _finish(self, group: Sequence[Entry[_Task]]) -> None:
        """Do the work of a group in the transaction that was begun, and end that."""
        writer = self._writer
        try:
            for handler, some in groupby(group, key=lambda entry: entry.work.handler):
                entries = list(some)
                _settle(entries, handler(writer, [entry.work.work for entry in entries]))
            writer.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            # SQLite has rolled back already after some errors, a full disk among them.
            with suppress(sqlite3.OperationalError):
                self._writer.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise this toolkit's errors for SQLite's."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            return StoreFormatError(f"{self.path} is not a SQLite database")
        if code == sqlite3.SQLITE_CORRUPT:
            return StoreFormatError(f"{self.path} is damaged ({error}): restore it from a backup")
        advice = {
            sqlite3.SQLITE_BUSY: f"another process has held its lock for over {self._timeout:g} s",
            sqlite3.SQLITE_LOCKED: "another connection holds a lock on it",
            sqlite3.SQLITE_READONLY: _READ_ONLY,
            sqlite3.SQLITE_FULL: "the disk is full",
            sqlite3.SQLITE_IOERR: f"the disk cannot be read or written ({error})",
            sqlite3.SQLITE_CANTOPEN: self._why_not_opened(),
        }.get(code)
        if advice is not None:
            return StoreUnavailableError(f"cannot use {self.path}: {advice}")
        return StoreError(f"{self.path}: {error}")

    def _why_not_opened(self) -> str:
        directory = self.path.absolute().parent
        if not directory.is_dir():
            return f"there is no directory {directory}"
        if self.path.is_dir():
            return "it is a directory"
        if not os.access(directory, os.W_OK):
            return f"this user may not write to {directory}"
        return "it cannot be opened"


class _Task(NamedTuple):
    handler: Handler[Any, Any]
    work: Any
    at_once: Handler[Any, Any] | None


def _settle(entries: Sequence[Entry[_Task]], outcomes: Sequence[Any | Exception]) -> None:
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, Exception):
            entry.error = outcome
        else:
            entry.result = outcome


def _run_each(
    connection: sqlite3.Connection, works: Sequence[Work[Any]]
) -> Sequence[Any | Exception]:
    outcomes = []
    for work in works:
        changes = connection.total_changes
        try:
            outcomes.append(work(connection))
        except Exception as error:
            if connection.total_changes != changes or isinstance(error, sqlite3.Error):
                raise
            outcomes.append(error)
    return outcomes


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
