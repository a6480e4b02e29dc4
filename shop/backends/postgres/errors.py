"""PostgreSQL's errors, as those of the toolkit."""

from __future__ import annotations

import psycopg
from psycopg import errors

from shop.eventsourcing.errors import StoreError, StoreUnavailableError

_ADVICE: dict[type[psycopg.Error], str] = {
    errors.LockNotAvailable: "another session has held a lock for over {timeout:g} s",
    errors.DiskFull: "the disk of the server is full",
    errors.ReadOnlySqlTransaction: "the server is read-only: it is a standby, or"
    " default_transaction_read_only is on",
    errors.TooManyConnections: "the server has no connection left: lower pool_size, or raise its"
    " max_connections",
    errors.DeadlockDetected: "it stood in the way of another session",
    errors.IdleInTransactionSessionTimeout: "this program was silent for over {timeout:g} s in the"
    " middle of a transaction, which the server has undone",
    errors.QueryCanceled: "it was cancelled: {text}",
}
"""What passes with time, or when somebody sees to it: worth a retry."""
_RIGHTS = {
    "create database": "CREATEDB, or somebody who has it makes the database beforehand",
    "for database": "CREATE on the database, or somebody who has it makes the schema beforehand,"
    " with all rights on it for the user",
}
_USUAL_RIGHTS = "all rights on the schema and on what is in it"
_DROPPED = (errors.UndefinedTable, errors.UndefinedFunction, errors.InvalidSchemaName)
_EXTENDING = {"mdextend", "mdzeroextend"}
"""Where PostgreSQL makes a table's file longer. A quota that ends there has no code of its own."""


def translation(error: psycopg.Error, place: str, timeout: float) -> StoreError:
    """The toolkit's error for one of PostgreSQL's.

    ``place`` says where the server is, without a password; ``timeout`` is that for locks, in
    seconds.
    """
    text = " ".join((error.diag.message_primary or str(error)).split())
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            told = advice.format(timeout=timeout, text=text)
            return StoreUnavailableError(f"cannot use {place}: {told}")
    if error.diag.source_function in _EXTENDING:
        return StoreUnavailableError(f"cannot use {place}: its disk takes no more: {text}")
    # Before there is a session, errors have no class of their own.
    if any(sign in text for sign in ("authentication failed", "pg_hba.conf", 'FATAL: role "')):
        return StoreError(f"{place} does not let us in: {text}")
    if isinstance(error, errors.InsufficientPrivilege):
        needed = next((right for what, right in _RIGHTS.items() if what in text), _USUAL_RIGHTS)
        return StoreError(f"{place} does not let us do that: {text} (the user needs {needed})")
    if isinstance(error, psycopg.OperationalError):
        return StoreUnavailableError(f"cannot reach {place}: {text or type(error).__name__}")
    if isinstance(error, _DROPPED):
        return StoreError(
            f"{place}: {text}: it was dropped while it was in use; start the shop again, which"
            " makes what is missing"
        )
    return StoreError(f"{place}: {text}")
