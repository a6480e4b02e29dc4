"""The driver's errors, as those of the toolkit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from shop.eventsourcing.errors import (
    StoreClosedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)

DUPLICATE_KEY = 11000
NAMESPACE_EXISTS = 48
_NO_ACCESS = {
    13: "this user may not do that: give it the role readWrite on the database",
    18: "authentication failed: check user, password and authSource",
}
_OUT_OF_DISK = 14031
_NO_SPACE = "No space left on device"
_INDEX_CONFLICTS = {85, 86}
# LockTimeout, LockBusy, WriteConflict, ExceededTimeLimit, TemporarilyUnavailable, Interrupted
_UNFINISHED = {24, 46, 112, 262, 365, 11601}
"""Codes of errors at which the server gives up an operation that may be done in part."""

_STEPPED_DOWN = ("NotPrimaryError(", "'PrimarySteppedDown'", "'InterruptedDueToReplStateChange'")
"""What the driver quotes of a member that stopped being the primary, until another is known."""


@contextmanager
def translated(where: str, timeout: float) -> Iterator[None]:
    """Raise the toolkit's errors for the driver's; see :func:`translation`."""
    try:
        yield
    except PyMongoError as error:
        raise translation(error, where, timeout) from error


def nothing_begun(error: PyMongoError) -> bool:
    """Whether the operation never reached a server."""
    return isinstance(error, ServerSelectionTimeoutError | WaitQueueTimeoutError)


def translation(error: PyMongoError, where: str, timeout: float) -> StoreError:
    """The toolkit's error for one of the driver's.

    ``where`` is the place of the database in messages; ``timeout`` is that for a connection, in
    seconds.
    """
    if isinstance(error, ServerSelectionTimeoutError):
        reason = _first_reason(error)
        if "Primary()" in reason or any(sign in str(error) for sign in _STEPPED_DOWN):
            return StoreUnavailableError(
                f"cannot use {where}: its replica set has had no primary for {timeout:g} s; it"
                " elects one when a majority of its members is there"
            )
        return StoreUnavailableError(
            f"cannot reach {where}: no server took a connection within {timeout:g} s ({reason})"
        )
    if isinstance(error, WaitQueueTimeoutError):
        return StoreUnavailableError(
            f"cannot use {where}: no connection of the pool became free within {timeout:g} s;"
            " pool_size says how many there are"
        )
    if isinstance(error, NetworkTimeout | ExecutionTimeout):
        return StoreUnavailableError(f"cannot use {where}: it did not answer in time ({error})")
    if isinstance(error, ConnectionFailure):
        return StoreUnavailableError(f"cannot use {where}: the connection was lost ({error})")
    if isinstance(error, InvalidOperation):
        return StoreClosedError(f"{where} is closed")
    if isinstance(error, ConfigurationError):
        return StoreError(f"cannot use {where}: {error}")
    if isinstance(error, WriteConcernError):
        return StoreUnavailableError(
            f"cannot use {where}: it did not confirm that a write is on disk ({error})"
        )
    if isinstance(error, OperationFailure):
        return _of_operation(error, where)
    return StoreError(f"{where}: {error}")


def _of_operation(error: OperationFailure, where: str) -> StoreError:
    """The error for what the server said no to."""
    told = error.details and error.details.get("errmsg")
    if error.code in _UNFINISHED:
        return StoreUnavailableError(f"cannot use {where}: it gave up an operation ({told})")
    if error.code in _NO_ACCESS:
        return StoreError(f"cannot use {where}: {_NO_ACCESS[error.code]}")
    if error.code == _OUT_OF_DISK or _NO_SPACE in str(error):
        return StoreUnavailableError(f"cannot use {where}: its disk is full")
    if error.code in _INDEX_CONFLICTS:
        return StoreFormatError(
            f"{where} has an index of the same name that is not this program's: {told}"
        )
    return StoreError(f"{where}: {error}")


def document_refused(message: str, where: str) -> StoreError:
    """The error for a document that the server did not take, with what it said."""
    if _NO_SPACE in message:
        return StoreUnavailableError(f"cannot use {where}: its disk is full")
    return StoreError(f"{where} refused a commit: {message}")


def _first_reason(error: ServerSelectionTimeoutError) -> str:
    """The driver's reason without its description of the whole topology."""
    return str(error).partition(", Timeout:")[0].partition(" (configured timeouts")[0]
