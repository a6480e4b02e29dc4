"""Opening a database file: whose it is, its journal, and its schema."""

from __future__ import annotations

import os
import sqlite3
import time
from binascii import a2b_base64
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shop.backends.sqlite.errors import READ_ONLY
from shop.backends.sqlite.query import FROM_BASE64
from shop.backends.sqlite.schema import APPLICATION_ID, MIGRATIONS, PAGE_SIZE, WAL_PAGES
from shop.eventsourcing.errors import StoreFormatError, StoreUnavailableError


def connect(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time; it begins no transactions by itself.

    It waits ``timeout`` seconds for a lock. The caller closes it. Raises SQLite's errors.
    """
    connection = sqlite3.connect(
        path, timeout=timeout, isolation_level=None, check_same_thread=False
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


def open_file(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection to a file that is made and brought up to date as needed; see :func:`connect`.

    Raises :class:`StoreFormatError` where the file is not this program's, or from a newer version,
    and leaves it as it is; :class:`StoreUnavailableError` where it is read-only; SQLite's errors.
    """
    connection = connect(path, timeout)
    try:
        connection.execute("BEGIN")  # so that what is checked is of one moment
        _check_format(connection, path)  # first of all: a foreign file is left as it is
        connection.execute("COMMIT")
        _check_writable(path)
        _use_wal(connection, timeout)
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction, if there still is one."""
    if connection.in_transaction:
        # SQLite has rolled back already after some errors, a full disk among them.
        with suppress(sqlite3.OperationalError):
            connection.execute("ROLLBACK")


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application != APPLICATION_ID:
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application or version or tables:
            raise StoreFormatError(f"{path} is a database of some other program")
    elif version > len(MIGRATIONS):
        raise StoreFormatError(
            f"{path} has schema version {version}, this program knows up to"
            f" {len(MIGRATIONS)}: it was written by a newer one"
        )


def _check_writable(path: Path) -> None:
    """SQLite itself opens what it may not write to, and complains at the first write."""
    if not os.access(path, os.W_OK):
        raise StoreUnavailableError(f"cannot use {path}: {READ_ONLY}")


def _use_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """Switch a new file to WAL mode.

    SQLite does not wait for a process that is doing the same, but gives up at once.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file's schema up to date, one process at a time."""
    if _pragma(connection, "user_version") == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_format(connection, path)
        for migration in MIGRATIONS[_pragma(connection, "user_version") :]:
            for statement in _statements(migration):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
