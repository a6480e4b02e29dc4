"""Commands: what somebody wants to happen, carried out once or refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from hashlib import blake2b
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregate import aggregate_kinds
from shop.eventsourcing.aggregates import Aggregates
from shop.eventsourcing.bus import BusStatus
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    CommitInDoubtError,
    CommitReusedError,
    ConcurrencyError,
    OutcomeUnknownError,
    StaleVersionError,
    StoreError,
    UnknownCommandError,
    UnregisteredError,
)
from shop.eventsourcing.event import AggregateRef, Event, EventData, Metadata, new_id
from shop.eventsourcing.registry import Payload, Registry, WireFormat, check_payload
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.store import Commit, EventStore, Query
from shop.eventsourcing.unit_of_work import Draft, Pipeline, UnitOfWork


class CommandPayload(Payload, frozen=True, forbid_unknown_fields=True):
    """Base of command payloads: immutable, typed, decorated with :func:`command`."""

    aggregate: ClassVar[str]
    """The kind of aggregate that the command addresses."""
    creates: ClassVar[bool] = False
    """Whether the command makes its aggregate: its id may be left out then."""


P = TypeVar("P", bound=CommandPayload)
P_co = TypeVar("P_co", bound=CommandPayload, covariant=True)
C = TypeVar("C", bound=type[CommandPayload])
T = TypeVar("T")


def command(name: str, *, creates: bool = False) -> Callable[[C], C]:
    """Give a command's payload class its wire name, ``<aggregate>.<verb>``.

    A bus refuses one that names no aggregate.
    """

    def decorate(cls: C) -> C:
        check_payload(cls, CommandPayload)
        cls.wire = WireFormat(name)
        cls.aggregate = name.rpartition(".")[0]
        cls.creates = creates
        return cls

    return decorate


class Command(msgspec.Struct, Generic[P_co], frozen=True):
    """A command on its way: payload, addressed aggregate, and the id under which it is done once.

    ``expected_version`` has the command refused unless the aggregate is at that version; without
    it, conflicts are retried. Raises ``ValueError`` when the aggregate's id is missing and the
    command does not create it.
    """

    id: UUID
    payload: P_co
    aggregate_id: UUID | None = None
    expected_version: int | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    actor: str | None = None

    def __post_init__(self) -> None:
        if self.aggregate_id is None and not self.payload.creates:
            name, aggregate = self.payload.wire.name, self.payload.aggregate
            raise ValueError(f"{name} needs the id of its {aggregate}")

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


Handler = Callable[[Any, UUID, UnitOfWork], None]
"""Carries out a command: (payload, id of the addressed aggregate, unit of work).

It loads the addressed aggregate (always), and any others, from the unit of work and calls their
methods. It has no other effects, since a conflict runs it again. It raises
:class:`CommandRejected` to refuse.
"""


class Module(msgspec.Struct, frozen=True):
    """What one part of a domain consists of: its events, and its commands with their handlers."""

    events: tuple[type[EventData], ...] = ()
    handlers: Mapping[type[CommandPayload], Handler] = {}


def command_registry(modules: Iterable[Module]) -> Registry[CommandPayload]:
    """The commands of some modules.

    Raises ``ValueError`` for one that is not named after an aggregate: it could never be carried
    out. (That it is the one that the handler loads is seen when it is.)
    """
    registry: Registry[CommandPayload] = Registry(
        payload_class for module in modules for payload_class in module.handlers
    )
    aggregates = aggregate_kinds()
    for payload_class in registry:
        if payload_class.aggregate not in aggregates:
            name = payload_class.wire.name
            near = get_close_matches(payload_class.aggregate, aggregates, n=1)
            raise ValueError(
                f"{name} is no name for a command, which is <aggregate>.<verb>: there is no"
                f" aggregate {payload_class.aggregate}" + "".join(f" (near: {n})" for n in near)
            )
    return registry


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
        """Have nobody wait any longer than must be for what others carry out; idempotent."""
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


class CommandBus:
    """Carries out commands, each once. Thread-safe; blocks the calling thread.

    Raises ``ValueError`` where a command of the modules is not named after an aggregate.
    """

    def __init__(
        self, store: EventStore, aggregates: Aggregates, modules: Iterable[Module]
    ) -> None:
        self._store = store
        self._aggregates = aggregates
        modules = tuple(modules)
        self._handlers: dict[type[CommandPayload], Handler] = {}
        for module in modules:
            self._handlers |= module.handlers
        self.registry = command_registry(modules)

    def dispatch(self, command: Command[CommandPayload], *, timeout: float = 10.0) -> CommandResult:
        """Carry out a command and return what it did, after that is durable.

        A command whose id was dispatched before returns the first result, with ``replayed`` set,
        whichever process the first was done by. Nothing is written where an error is raised:

        - :class:`PayloadError`: the payload does not fit its class
        - :class:`CommandRejected`: a business rule says no
        - :class:`AggregateNotFoundError`: the addressed aggregate does not exist
        - :class:`StaleVersionError`: it is not at ``expected_version``
        - :class:`CommandIdReusedError`: the id was used for something else
        - :class:`CommandTimeoutError`: it met conflicting writes for ``timeout`` seconds
        - :class:`UnknownCommandError`: nobody handles it
        - :class:`StoreUnavailableError`: the store cannot be reached
        - ``ValueError``: a bug, the handler did not load the addressed aggregate, or recorded an
          event that is in no module

        Only :class:`OutcomeUnknownError` leaves it open: the store was lost in the middle, and
        could not be asked in time, or does not tell what was done.
        """
        self._handler(command)
        digest = self._digest(command)
        retry = ConflictRetry(timeout=timeout)
        try:
            for attempt in retry:
                with attempt:
                    work = self._decide(command, trust=retry.attempts == 1)
                    commit = work.commit(
                        commit_id=command.id, digest=digest, metadata=command.metadata
                    )
        except (CommandRejected, AggregateNotFoundError, StaleVersionError) as refusal:
            # A repeat may be refused for what its first time did: then that is the answer.
            known = self._store.find_commit(command.id)
            if known is None:
                raise
            if known.digest != digest:
                raise CommandIdReusedError(command.id) from refusal
            commit = known
        except CommitReusedError as error:
            raise CommandIdReusedError(command.id) from error
        except UnregisteredError as error:
            raise ValueError(
                f"the handler of {command.payload.wire.name} recorded {error.name}, which is in no"
                " module's events"
            ) from error
        except CommitInDoubtError as error:
            raise OutcomeUnknownError(
                command.id, command.payload.wire.name, retry.elapsed
            ) from error
        except ConcurrencyError as error:
            raise CommandTimeoutError(
                command.payload.wire.name, retry.attempts, retry.elapsed
            ) from error
        if commit.replayed:
            try:
                return self._recall(command, commit)
            except StoreError as error:  # which would be taken to mean that nothing was written
                raise OutcomeUnknownError(
                    command.id, command.payload.wire.name, retry.elapsed
                ) from error
        return _result(command, work, commit)

    def check(self) -> None:
        """As :meth:`CommandDispatcher.check`: this process carries commands out itself."""

    def status(self) -> BusStatus:
        """As :meth:`CommandDispatcher.status`: there is nothing to tell."""
        return BusStatus()

    def stop(self) -> None:
        """As :meth:`CommandDispatcher.stop`: nobody waits for others."""

    def dispatch_each(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """Carry out several commands; return for each its result, or what ``dispatch`` raises.

        As if they were dispatched one after the other, in much less time: those are stored together
        that follow upon one another and change different aggregates. Only one that meets somebody
        else's write may come after those that follow it.
        """
        outcomes: list[CommandResult | Exception] = []
        while len(outcomes) < len(commands):
            outcomes += self._dispatch_together(commands[len(outcomes) :])
        return outcomes

    def _dispatch_together(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """Carry out as many of the commands, from the first on, as can be stored together."""
        began = time.monotonic()
        pipeline = Pipeline(self._aggregates)
        works: list[UnitOfWork] = []
        for command in commands:
            made = command.id if command.aggregate_id is None else None
            work = pipeline.work(made=made)
            try:
                draft = self.draft(command, work)
            except Exception:  # noqa: BLE001 - it may rest on what is so no longer
                break
            if not pipeline.add(draft):
                break
            works.append(work)
        if not works:
            return dispatch_in_turn(self.dispatch, commands[:1])
        outcomes: list[CommandResult | Exception] = []
        for command, work, outcome in zip(commands, works, pipeline.commit(), strict=False):
            if isinstance(outcome, Commit) and not outcome.replayed:
                outcomes.append(_result(command, work, outcome))
            elif isinstance(outcome, CommitInDoubtError):
                name, waited = command.payload.wire.name, time.monotonic() - began
                outcomes.append(OutcomeUnknownError(command.id, name, waited))
            elif isinstance(outcome, StoreError):
                outcomes.append(outcome)
            else:  # known, or in conflict with somebody else
                outcomes += dispatch_in_turn(self.dispatch, [command])
        return outcomes

    def draft(self, command: Command[CommandPayload], work: UnitOfWork) -> Draft:
        """Have a command's handler record in a unit of work what is to change, for a pipeline.

        Raises what :meth:`dispatch` raises of a command that is refused.
        """
        self._record(command, work)
        return Draft(work, command.id, self._digest(command), command.metadata)

    def _record(self, command: Command[CommandPayload], work: UnitOfWork) -> None:
        handler, aggregate = self._handler(command), command.aggregate
        try:
            handler(command.payload, aggregate.id, work)
        except Exception:
            if aggregate in work and not work.trusted:
                # Whoever expects another version is told so first, whatever the rules say.
                work.version(aggregate, command.expected_version)
            raise
        if aggregate not in work:
            raise ValueError(
                f"the handler of {command.payload.wire.name} did not load {aggregate}, which the"
                " command addresses: it must find() or get() it, whatever else it changes"
            )
        work.version(aggregate, command.expected_version)

    def _decide(self, command: Command[CommandPayload], *, trust: bool) -> UnitOfWork:
        """Have the handler record what the command changes.

        ``trust`` takes it that aggregates are as they were last seen here, and that one whose id
        was just made does not exist. The commit finds out where that is wrong, so it saves the
        reads of nearly every command. Only a refusal must not rest on it, and is decided again.
        """
        made = command.id if command.aggregate_id is None else None
        work = UnitOfWork(self._aggregates, trust=trust, made=made)
        try:
            self._record(command, work)
        except Exception:
            if work.trusted:
                return self._decide(command, trust=False)
            raise
        return work

    def _handler(self, command: Command[CommandPayload]) -> Handler:
        try:
            return self._handlers[type(command.payload)]
        except KeyError:
            raise UnknownCommandError(command.payload.wire.name) from None

    def _digest(self, command: Command[CommandPayload]) -> bytes:
        """A hash of what is wanted: the command's name, the aggregate and the payload."""
        payload = self.registry.encode(command.payload)
        hasher = blake2b(digest_size=16)
        hasher.update(f"{command.payload.wire.name} {command.aggregate_id} ".encode())
        hasher.update(payload)
        return hasher.digest()

    def _recall(self, command: Command[CommandPayload], commit: Commit) -> CommandResult:
        """The result of a command that was done before, read from what it stored then."""
        events: tuple[Event[EventData], ...] = ()
        if commit.size:
            events = tuple(self._store.read(Query(after=commit.first - 1, to=commit.last)))
        aggregate = command.aggregate
        latest = self._store.read(Query(refs=[aggregate], to=commit.last, reverse=True, limit=1))
        version = max((event.version for event in latest), default=0)
        return CommandResult(command.id, aggregate, version, commit.last, events, replayed=True)


def _result(command: Command[CommandPayload], work: UnitOfWork, commit: Commit) -> CommandResult:
    version = work.version(command.aggregate)
    return CommandResult(command.id, command.aggregate, version, commit.last, tuple(work.events))
