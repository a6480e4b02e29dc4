"""The errors that the toolkit raises on purpose, below one root: :class:`EventSourcingError`.

What a caller can conclude:

- Try again later; nothing was written: :class:`StoreUnavailableError`, :class:`ConcurrencyError`,
  :class:`CommandTimeoutError`, :class:`NoWorkerError`, :class:`BusUnavailableError`.
- It may have been written; try again with the same commit id or command id to find out:
  :class:`CommitInDoubtError`, :class:`OutcomeUnknownError`.
- The request is wrong; nothing was written: :class:`CommandRejected`,
  :class:`AggregateNotFoundError`, :class:`StaleVersionError`, :class:`PayloadError`,
  :class:`UnknownCommandError`, :class:`CommandIdReusedError`, :class:`CommitReusedError`,
  :class:`EventIdReusedError`.
- What is stored cannot be read by this program: :class:`StoreFormatError`,
  :class:`EventDecodeError`.
- There is a bug: :class:`UnregisteredError`, :class:`WorkerFailedError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from shop.eventsourcing.events.event import AggregateRef


class EventSourcingError(Exception):
    """The root of all errors raised by the toolkit and its backends."""


class PayloadError(EventSourcingError):
    """A payload does not fit its class, or no class knows its wire name.

    ``path`` is a JSON pointer (RFC 6901) to the bad field, empty for the whole payload.
    """

    def __init__(self, name: str, reason: str, path: str = "") -> None:
        super().__init__(f"{name}: {reason}" + (f" at {path}" if path else ""))
        self.name = name
        self.reason = reason
        self.path = path


class UnregisteredError(PayloadError):
    """No class in the registry has the name of a payload.

    A bug of the code that made the payload, or the registry lacks what a store holds.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, "no class is registered under this name")


class StoreError(EventSourcingError):
    """An event, model or snapshot store could not do what was asked."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached, is locked for too long or is out of space; worth a retry.

    What was asked for was *not* done, unless it is a :class:`CommitInDoubtError`.
    """


class CommitInDoubtError(StoreUnavailableError):
    """The connection was lost during a commit: it may be stored, now or later.

    The same append with the same commit id finds out.
    """


class StoreFormatError(StoreError):
    """What the store's URL leads to is not a store of this program, or of a newer version of it."""


class StoreClosedError(StoreError):
    """The store was used after its ``close``."""


class EventDecodeError(StoreError):
    """A stored event cannot be read: no class knows its name, or its data does not fit.

    ``hint`` says what may be done about it, where that is known.
    """

    def __init__(
        self, event_id: UUID, name: str, position: int, reason: str, hint: str = ""
    ) -> None:
        told = f"event {event_id} ({name}) at position {position}: {reason}"
        super().__init__(f"{told}; {hint}" if hint else told)
        self.event_id = event_id
        self.name = name
        self.position = position
        self.reason = reason
        self.hint = hint


class ConcurrencyError(EventSourcingError):
    """An append did not continue, or a guard no longer matched, the version of an aggregate."""

    def __init__(self, aggregate: AggregateRef, expected: int, actual: int) -> None:
        super().__init__(f"{aggregate} is at version {actual}, not at the expected {expected}")
        self.aggregate = aggregate
        self.expected = expected
        self.actual = actual


class CommitReusedError(EventSourcingError):
    """A commit id was appended again with other content."""

    def __init__(self, commit_id: UUID) -> None:
        super().__init__(f"commit {commit_id} is already in the store, with other content")
        self.commit_id = commit_id


class EventIdReusedError(EventSourcingError):
    """An event was appended whose id another stored event has."""

    def __init__(self, event_id: UUID) -> None:
        super().__init__(f"event {event_id} is already in the store, in another commit")
        self.event_id = event_id


class ReplicationError(EventSourcingError):
    """A commit of another store cannot be stored as it is there: this store has other events."""

    def __init__(self, commit_id: UUID, first: int, reason: str) -> None:
        super().__init__(f"commit {commit_id}, from position {first} on, does not fit: {reason}")
        self.commit_id = commit_id
        self.first = first


class VerificationError(EventSourcingError):
    """A store does not hold what was replicated into it."""

    def __init__(self) -> None:
        super().__init__(
            "the target differs from the source, although everything was written; another program"
            " may have written to it as well. Run the same again: it compares commit by commit and"
            " tells where they differ"
        )


class ArchiveError(EventSourcingError):
    """A line of an exported history is malformed, or not the one that has to come next."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class AggregateNotFoundError(EventSourcingError):
    """An aggregate was asked for that has no events, or not at the version or time asked for."""

    def __init__(self, aggregate: AggregateRef, *, at: str = "") -> None:
        super().__init__(f"{aggregate} does not exist" + (f" at {at}" if at else ""))
        self.aggregate = aggregate


class CommandRejected(EventSourcingError):
    """A business rule says no.

    ``code`` is stable, lower-case and hyphenated (``stock-insufficient``): for programs. ``detail``
    is for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class UnknownCommandError(EventSourcingError):
    """No handler is registered for a command."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no handler is registered for the command {name!r}")
        self.name = name


class StaleVersionError(EventSourcingError):
    """The addressed aggregate is not at the version that the sender of the command expected."""

    def __init__(self, aggregate: AggregateRef, expected: int, actual: int) -> None:
        super().__init__(f"{aggregate} is at version {actual}, the command expects {expected}")
        self.aggregate = aggregate
        self.expected = expected
        self.actual = actual


class CommandTimeoutError(EventSourcingError):
    """A command met conflicts until its time was over. Nothing was written."""

    def __init__(self, name: str, attempts: int, seconds: float) -> None:
        super().__init__(
            f"{name} met a conflicting write in each of {attempts} attempts in {seconds:.1f} s"
        )
        self.name = name
        self.attempts = attempts
        self.seconds = seconds


class CommandIdReusedError(EventSourcingError):
    """A command id came again with another command or payload."""

    def __init__(self, command_id: UUID) -> None:
        super().__init__(f"command id {command_id} was used before, for another command or payload")
        self.command_id = command_id


class NoWorkerError(EventSourcingError):
    """No worker accepted a command: none is there, or all were busy. Nothing was written."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"no worker accepted {name}: {reason}")
        self.name = name
        self.reason = reason


class OutcomeUnknownError(EventSourcingError):
    """The store or a worker began with a command and did not report the outcome in time.

    Dispatched again with the same id, the command is done once, and its outcome is known then.
    """

    def __init__(self, command_id: UUID, name: str, seconds: float) -> None:
        super().__init__(
            f"the outcome of {name} is not known after {seconds:.1f} s: it may have been done;"
            f" sent again with the same command id, {command_id}, it is done once"
        )
        self.command_id = command_id
        self.name = name
        self.seconds = seconds


class WorkerFailedError(EventSourcingError):
    """A command failed in a worker with an unexpected error; the worker's log has it."""

    def __init__(self, command_id: UUID, name: str, detail: str) -> None:
        super().__init__(f"command {command_id} ({name}) failed in a worker: {detail}")
        self.command_id = command_id
        self.name = name
        self.detail = detail


class ProjectionError(EventSourcingError):
    """A projection or its read models cannot do what was asked."""


class CheckpointMovedError(ProjectionError):
    """Somebody else moved a projection's checkpoint in the meantime; nothing was written."""

    def __init__(self, projection: str) -> None:
        super().__init__(f"the checkpoint of {projection} was moved by another process")
        self.projection = projection


class BusError(EventSourcingError):
    """A bus could not carry a message."""


class BusUnavailableError(BusError):
    """The bus's server cannot be reached. Nothing was sent."""


class BusClosedError(BusError):
    """The bus was used after its ``close``, or closed meanwhile."""


class NoResponderError(BusError):
    """No process serves a request. None has received it."""


class NoAnswerError(BusError):
    """No answer came in time, or before the connection broke: the outcome is unknown."""


class MessageTooLargeError(BusError):
    """A message is larger than the bus's server takes. It was not sent."""

    def __init__(self, subject: str, size: int, most: int) -> None:
        super().__init__(f"the message for {subject} has {size} bytes, the server takes {most}")
        self.subject = subject
        self.size = size
        self.most = most
