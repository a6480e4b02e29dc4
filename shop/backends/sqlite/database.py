"""One database file: a writing connection for all threads, and a pool of reading ones."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from shop.backends.sqlite.errors import translated, translation
from shop.backends.sqlite.opening import connect, open_file, roll_back
from shop.eventsourcing.errors import StoreClosedError, StoreError, StoreUnavailableError
from shop.eventsourcing.stores.append import CLOSE_SECONDS
from shop.eventsourcing.stores.group_commit import Entry, GroupCommit

logger = logging.getLogger(__name__)

T = TypeVar("T")
W = TypeVar("W")
Row = tuple[Any, ...]
Work = Callable[[sqlite3.Connection], T]
Handler = Callable[[sqlite3.Connection, Sequence[W]], Sequence[T | Exception]]
"""Does several pieces of work in one transaction and gives the outcome of each: a result, or an
error when that piece wrote nothing. What it raises undoes the whole transaction."""

_LOOK = 1.0
"""Seconds from one look at whether the file is still there to the next."""


class Database:
    """A SQLite file in WAL mode. Thread-safe; several processes may open the same file.

    Writers of this process share transactions (see :mod:`shop.eventsourcing.stores.group_commit`),
    each durable when :meth:`write` returns: ``synchronous=FULL`` has the log on disk by then.
    Readers never wait for writers. A lock held by another process is waited for, ``timeout``
    seconds.

    A file that is deleted, moved away or replaced while it is open would take everything, and
    nobody would ever find it again; so would its write-ahead log, and the index of that is what
    processes see each other by. So reads and writes raise :class:`StoreUnavailableError` from a
    second later on, until it is back.
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
        with translated(path, timeout):
            self._writer = open_file(path, timeout)
            # Wherever the process goes. SQLite keeps the log where a symbolic link leads to.
            log = (f"{path.resolve()}{suffix}" for suffix in ("-wal", "-shm"))
            self._files = {place: place.stat() for place in (path.absolute(), *map(Path, log))}
        self._next_look = 0.0
        self._group = GroupCommit(self._commit)

    def write(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction and return its result once that is durable.

        The transaction may be shared with other callers, and ``work`` may run in another thread.
        It fails alone: what it raises is raised here and undoes only its own changes. To that end
        it may run a second time, so it must have no effects outside the database.
        """
        [outcome] = self.write_each(_run_each, [work])
        if isinstance(outcome, Exception):
            raise outcome
        return cast("T", outcome)

    def write_each(
        self,
        handler: Handler[W, T],
        works: Sequence[W],
        *,
        at_once: Handler[W, T] | None = None,
    ) -> list[T | Exception]:
        """As :meth:`write` for several works, in order; their results or errors.

        The work of concurrent callers is done by one call of ``handler``, in fewer statements than
        each alone would take. Each statement costs more than its time: after it, the thread queues
        for the interpreter's lock.

        ``at_once`` may do the same in a single statement, which is then a transaction of its own,
        or else give no outcomes and leave the work to ``handler``.
        """
        return self._group.submit_each([_Task(handler, work, at_once) for work in works])

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one query and return all its rows."""
        self._check_there()
        try:
            connection = self._idle_readers.pop()
        except IndexError:
            connection = self._new_reader()
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise translation(error, self.path, self._timeout) from error
        finally:
            self._idle_readers.append(connection)
            if self._closed:
                self._close_readers()

    def _new_reader(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreClosedError(f"{self.path} is closed")
        with translated(self.path, self._timeout):
            connection = connect(self.path, self._timeout)
            connection.execute("PRAGMA query_only = ON")
        return connection

    def close(self) -> None:
        """Finish the writes under way and close the file; idempotent.

        They may wait for another process's lock, so they have half a second. Those that need longer
        go on, with the file left open.
        """
        done = self._group.close(CLOSE_SECONDS)
        self._closed = True
        self._close_readers()
        if done:
            self._writer.close()
        else:
            logger.warning("%s is left open: a write to it did not end in time", self.path)

    def _close_readers(self) -> None:
        """Close what is idle. A reader that is in use comes here when it is given back."""
        with suppress(IndexError):
            while True:
                self._idle_readers.pop().close()

    def _commit(self, group: Sequence[Entry[_Task]]) -> None:
        """Commit a group in one transaction, or each alone where one undid it for all.

        Raises where no transaction can be begun, which is nobody's fault and fails for all.
        """
        self._check_there()
        roll_back(self._writer)  # what a thread has left that was interrupted, as by Ctrl-C
        try:
            if self._done_at_once(group):
                return
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise translation(error, self.path, self._timeout) from error
        try:
            self._finish(group)
        except Exception as error:  # noqa: BLE001 - a caller's own, whatever it is
            if len(group) > 1:
                self._commit_one_by_one(group)
            else:
                group[0].outcome = error
                if isinstance(error, sqlite3.Error):
                    group[0].outcome = translation(error, self.path, self._timeout)
                    group[0].outcome.__cause__ = error

    def _check_there(self) -> None:
        """Raise :class:`StoreUnavailableError` where a path leads to another file, or to none."""
        now = time.monotonic()
        if now < self._next_look:
            return
        for place, file in self._files.items():
            try:
                there = os.path.samestat(place.stat(), file)
            except OSError:
                there = False
            if not there:
                raise StoreUnavailableError(
                    f"{place} was deleted, moved or replaced while it is in use: put it back, or"
                    " start the shop again to go on with what is there"
                )
        self._next_look = now + _LOOK

    def _done_at_once(self, group: Sequence[Entry[_Task]]) -> bool:
        """Whether all of the group could be done by one statement."""
        at_once = group[0].work.at_once
        if at_once is None or any(entry.work.at_once is not at_once for entry in group):
            return False
        try:
            outcomes = at_once(self._writer, [entry.work.work for entry in group])
        except Exception as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise  # it has waited long enough
            return False  # one after the other, so that each fails of its own
        if outcomes:
            _settle(group, outcomes)
        return bool(outcomes)

    def _commit_one_by_one(self, group: Sequence[Entry[_Task]]) -> None:
        for number, entry in enumerate(group):
            try:
                self._commit([entry])
            except StoreError as error:
                # The others would only wait in vain, one after the other.
                for left in group[number:]:
                    left.outcome = error
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
            roll_back(writer)
            raise


class _Task(NamedTuple):
    handler: Handler[Any, Any]
    work: Any
    at_once: Handler[Any, Any] | None


def _settle(entries: Sequence[Entry[_Task]], outcomes: Sequence[Any | Exception]) -> None:
    for entry, outcome in zip(entries, outcomes, strict=True):
        entry.outcome = outcome


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
