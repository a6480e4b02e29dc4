"""How commands and their outcomes travel between processes: JSON, readable with any tool.

A reader passes over members that it does not know, so that members can be added while processes of
two versions are running.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from shop.eventsourcing.commands.command import Command, CommandPayload, CommandResult
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    EventSourcingError,
    OutcomeUnknownError,
    PayloadError,
    StaleVersionError,
    StoreUnavailableError,
    UnknownCommandError,
)
from shop.eventsourcing.events.envelope import encode_event
from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.events.ordinal import Count, Ordinal
from shop.eventsourcing.events.registry import Registry

GROUP = "workers"
"""The group of all workers: one of them gets each command."""


def command_subject(store: UUID, name: str) -> str:
    """Where a command is sent to: it reaches only workers that know it and use the same store."""
    return f"commands.{store}.{name}"


class CommandMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command on its way to a worker.

    ``timeout`` is how many seconds it was given when it was sent, and ``deadline`` when they are
    over by the clock of the worker, as far as the sender knows it. ``given_up_before`` says that a
    worker may have begun with the command and did not answer in time.
    """

    id: UUID
    name: str
    schema: Ordinal
    payload: msgspec.Raw
    timeout: float
    deadline: Annotated[datetime, Meta(tz=True)]
    aggregate_id: UUID | None = None
    expected_version: int | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    actor: str | None = None
    given_up_before: bool = False

    @classmethod
    def of(
        cls,
        command: Command[CommandPayload],
        payload: bytes,
        *,
        timeout: float,
        deadline: datetime,
        given_up_before: bool = False,
    ) -> CommandMessage:
        """The message for a command whose payload is encoded already."""
        return cls(
            command.id,
            command.name,
            command.payload.wire.version,
            msgspec.Raw(payload),
            timeout,
            deadline,
            command.aggregate_id,
            command.expected_version,
            command.correlation_id,
            command.causation_id,
            command.actor,
            given_up_before,
        )

    def command(self, registry: Registry[CommandPayload]) -> Command[CommandPayload]:
        """The command. Raises :class:`PayloadError`, or ``ValueError`` without an id it needs."""
        return Command(
            self.id,
            registry.decode(self.name, self.schema, bytes(self.payload)),
            self.aggregate_id,
            self.expected_version,
            self.correlation_id,
            self.causation_id,
            self.actor,
        )

    def left(self) -> float:
        """The seconds that are left; 0 or less when the sender does not wait any more."""
        return min(self.timeout, (self.deadline - datetime.now(UTC)).total_seconds())


class _AnswerBase(msgspec.Struct, frozen=True, tag_field="outcome"):
    """What all kinds of :data:`Answer` have in common."""


class Done(_AnswerBase, frozen=True, tag="done"):
    """The command was carried out.

    ``events`` have the form that they have on the bus; ``None`` if they do not fit into a message.
    """

    command_id: UUID
    aggregate: AggregateRef
    version: Count
    position: Count
    size: Count
    events: list[msgspec.Raw] | None
    replayed: bool

    @classmethod
    def of(cls, result: CommandResult) -> Done:
        """The message for a result."""
        return cls(
            result.command_id,
            result.aggregate,
            result.version,
            result.position,
            len(result.events),
            [msgspec.Raw(encode_event(event)) for event in result.events],
            result.replayed,
        )

    def result(self, events: tuple[Event[EventData], ...]) -> CommandResult:
        """The result with these events."""
        return CommandResult(
            self.command_id, self.aggregate, self.version, self.position, events, self.replayed
        )


class Present(_AnswerBase, frozen=True, tag="present"):
    """A worker is there: the answer to an empty request."""


class NotTaken(_AnswerBase, frozen=True, tag="not-taken"):
    """The worker has not begun with the command and will not; another may."""

    reason: str


class Expired(_AnswerBase, frozen=True, tag="expired"):
    """The command came after its deadline by the worker's clock, which it tells; not begun."""

    now: Annotated[datetime, Meta(tz=True)]


class Failed(_AnswerBase, frozen=True, tag="failed"):
    """The worker met an unexpected error, or a message could not be read."""

    detail: str


class _Rejected(_AnswerBase, frozen=True, tag="rejected"):
    code: str
    detail: str


class _PayloadInvalid(_AnswerBase, frozen=True, tag="payload-invalid"):
    name: str
    reason: str
    path: str


class _AggregateNotFound(_AnswerBase, frozen=True, tag="aggregate-not-found"):
    aggregate: AggregateRef


class _VersionStale(_AnswerBase, frozen=True, tag="version-stale"):
    aggregate: AggregateRef
    expected: int
    actual: int


class _CommandIdReused(_AnswerBase, frozen=True, tag="command-id-reused"):
    command_id: UUID


class _TimedOut(_AnswerBase, frozen=True, tag="timed-out"):
    name: str
    attempts: int
    seconds: float


class _CommandUnknown(_AnswerBase, frozen=True, tag="command-unknown"):
    name: str


class _OutcomeUnknown(_AnswerBase, frozen=True, tag="outcome-unknown"):
    command_id: UUID
    name: str
    seconds: float


class _StoreUnavailable(_AnswerBase, frozen=True, tag="store-unavailable"):
    message: str


# The members of each are the arguments of the error's constructor.
_ErrorAnswer: TypeAlias = (
    _Rejected
    | _PayloadInvalid
    | _AggregateNotFound
    | _VersionStale
    | _CommandIdReused
    | _TimedOut
    | _CommandUnknown
    | _OutcomeUnknown
    | _StoreUnavailable
)
_ERRORS: Mapping[type[EventSourcingError], type[_ErrorAnswer]] = {
    CommandRejected: _Rejected,
    PayloadError: _PayloadInvalid,
    AggregateNotFoundError: _AggregateNotFound,
    StaleVersionError: _VersionStale,
    CommandIdReusedError: _CommandIdReused,
    CommandTimeoutError: _TimedOut,
    UnknownCommandError: _CommandUnknown,
    OutcomeUnknownError: _OutcomeUnknown,
    StoreUnavailableError: _StoreUnavailable,
}
_ERRORS_BACK: Mapping[type[_AnswerBase], type[EventSourcingError]] = {
    answer: error for error, answer in _ERRORS.items()
}

Answer: TypeAlias = Done | Present | NotTaken | Expired | Failed | _ErrorAnswer
"""What a worker answers."""


def answer_of(error: Exception) -> Answer:
    """The answer that tells of a command's error."""
    for kind, answer in _ERRORS.items():
        if isinstance(error, kind):
            members: list[Any] = [
                # The one error that has nothing but its message.
                str(error) if member == "message" else getattr(error, member)
                for member in answer.__struct_fields__
            ]
            return answer(*members)
    return Failed(f"{type(error).__name__}: {error}")


def error_of(answer: Answer) -> EventSourcingError | None:
    """The error that an answer stands for; ``None`` where it stands for none."""
    error = _ERRORS_BACK.get(type(answer))
    return None if error is None else error(*msgspec.structs.astuple(answer))


encode_message = msgspec.json.Encoder().encode
decode_command = msgspec.json.Decoder(CommandMessage).decode
_ANSWER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def decode_answer(data: bytes) -> Answer:
    """The answer in a message; :class:`Failed` where it cannot be read, or its kind is unknown."""
    try:
        return _ANSWER.decode(data)
    except (ValueError, RecursionError) as error:
        return Failed(f"the answer cannot be read: {error}")
