"""Commands: what somebody wants to happen, carried out once or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.buses.bus import BusStatus
from shop.eventsourcing.events.event import (
    AggregateRef,
    Event,
    EventData,
    Metadata,
    check_metadata,
    new_id,
)
from shop.eventsourcing.events.registry import Payload, Registry, WireFormat, check_payload
from shop.eventsourcing.events.types import check_types


class CommandPayload(Payload, frozen=True, forbid_unknown_fields=True):
    """Base of command payloads: immutable, typed, decorated with :func:`command`."""

    aggregate: ClassVar[str]
    """The kind of aggregate that the command addresses."""
    creates: ClassVar[bool] = False
    """Whether the command makes its aggregate: its id may be left out then."""


P = TypeVar("P", bound=CommandPayload)
P_co = TypeVar("P_co", bound=CommandPayload, covariant=True)
C = TypeVar("C", bound=type[CommandPayload])


def command(name: str, *, creates: bool = False) -> Callable[[C], C]:
    """Give a command's payload class its wire name, ``<aggregate>.<verb>``.

    A bus refuses one that names no aggregate.
    """
    wire = WireFormat(name)

    def decorate(cls: C) -> C:
        check_payload(cls, CommandPayload)
        cls.wire = wire
        cls.aggregate = name.rpartition(".")[0]
        cls.creates = creates
        return cls

    return decorate


class Command(msgspec.Struct, Generic[P_co], frozen=True):
    """A command on its way: payload, addressed aggregate, and the id under which it is done once.

    ``expected_version`` has the command refused unless the aggregate is at that version; without
    it, conflicts are retried. Raises ``ValueError`` when the aggregate's id is missing and the
    command does not create it, and ``TypeError`` for an argument of another type.
    """

    id: UUID
    payload: P_co
    aggregate_id: UUID | None = None
    expected_version: int | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    actor: str | None = None

    def __post_init__(self) -> None:
        payload: object = self.payload
        if not isinstance(payload, CommandPayload) or not hasattr(payload, "wire"):
            raise TypeError(
                f"{payload!r} is no command payload: an object of a class with @command"
            )
        check_types(UUID, id=self.id)
        check_types(UUID, optional=True, aggregate_id=self.aggregate_id)
        check_types(int, optional=True, expected_version=self.expected_version)
        check_metadata(Metadata(self.id, self.correlation_id, self.causation_id, self.actor))
        if self.aggregate_id is None and not self.payload.creates:
            raise ValueError(f"{self.name} needs the id of its {self.payload.aggregate}")

    @classmethod
    def new(
        cls,
        payload: P,
        aggregate_id: UUID | None = None,
        *,
        id: UUID | None = None,
        expected_version: int | None = None,
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
        actor: str | None = None,
    ) -> Command[P]:
        """A command with a new id, unless one is given."""
        return Command(
            id or new_id(),
            payload,
            aggregate_id,
            expected_version,
            correlation_id,
            causation_id,
            actor,
        )

    @property
    def name(self) -> str:
        """The wire name of its payload."""
        return self.payload.wire.name

    @property
    def aggregate(self) -> AggregateRef:
        """The aggregate that it addresses, which may be made by it."""
        return AggregateRef(self.payload.aggregate, self.aggregate_id or self.id)

    @property
    def metadata(self) -> Metadata:
        """What the command's events say about why they happened."""
        return Metadata(
            self.id, self.correlation_id or self.id, self.causation_id or self.id, self.actor
        )


class CommandResult(msgspec.Struct, frozen=True):
    """What a command did. ``version`` is the addressed aggregate's afterwards."""

    command_id: UUID
    aggregate: AggregateRef
    version: int
    position: int
    events: tuple[Event[EventData], ...]
    """What was recorded; what a newer worker recorded may have :class:`UnknownEventData`."""
    replayed: bool = False
    """Whether the command was done before, and this is the result of then."""


class CommandDispatcher(Protocol):
    """Has commands carried out, here or elsewhere. Thread-safe."""

    @property
    def registry(self) -> Registry[CommandPayload]:
        """The commands that there are."""
        ...

    def dispatch(self, command: Command[CommandPayload], *, timeout: float = 10.0) -> CommandResult:
        """As :meth:`CommandBus.dispatch`; elsewhere, as :meth:`RemoteCommandBus.dispatch`."""
        ...

    def dispatch_each(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """As :meth:`CommandBus.dispatch_each`."""
        ...

    def check(self) -> None:
        """Raise :class:`NoWorkerError` where nobody is there to carry commands out."""
        ...

    def status(self) -> BusStatus:
        """What became of the commands so far, where that is not plain from their results."""
        ...

    def stop(self) -> None:
        """Stop waiting for workers; idempotent. Each command is still sent once."""
        ...


def dispatch_in_turn(
    dispatch: Callable[[Command[CommandPayload]], CommandResult],
    commands: Iterable[Command[CommandPayload]],
) -> list[CommandResult | Exception]:
    """Dispatch one command after the other; return for each its result, or its error."""
    outcomes: list[CommandResult | Exception] = []
    for command in commands:
        try:
            outcomes.append(dispatch(command))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this one's outcome
            outcomes.append(error)
    return outcomes
