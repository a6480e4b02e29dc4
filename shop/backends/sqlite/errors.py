"""SQLite's errors, as those of the toolkit."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shop.eventsourcing.errors import StoreError, StoreFormatError, StoreUnavailableError

READ_ONLY = (
    "it is read-only: give this user the right to write to the file and its directory, or mount"
    " the file system for writing"
)


@contextmanager
def translated(path: Path, timeout: float) -> Iterator[None]:
    """Raise the toolkit's errors for SQLite's; see :func:`translation`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translation(error, path, timeout) from error


def translation(error: sqlite3.Error, path: Path, timeout: float) -> StoreError:
    """The toolkit's error for one of SQLite's, about a file whose locks are waited for so long.

    ``timeout`` is in seconds.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return StoreFormatError(f"{path} is not a SQLite database")
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreFormatError(f"{path} is damaged ({error}): restore it from a backup")
    advice = {
        sqlite3.SQLITE_BUSY: f"another process has held its lock for over {timeout:g} s",
        sqlite3.SQLITE_LOCKED: "another connection holds a lock on it",
        sqlite3.SQLITE_READONLY: READ_ONLY,
        sqlite3.SQLITE_FULL: "the disk is full",
        sqlite3.SQLITE_IOERR: f"the disk cannot be read or written ({error})",
        sqlite3.SQLITE_CANTOPEN: _why_not_opened(path),
    }.get(code)
    if advice is not None:
        return StoreUnavailableError(f"cannot use {path}: {advice}")
    return StoreError(f"{path}: {error}")


def _why_not_opened(path: Path) -> str:
    directory = path.absolute().parent
    try:
        if not directory.is_dir():
            return f"there is no directory {directory}"
        if path.is_dir():
            return "it is a directory"
    except PermissionError:
        return f"this user may not look into {directory}, or what that is in"
    if not os.access(directory, os.W_OK):
        return f"this user may not write to {directory}"
    return "it cannot be opened"
