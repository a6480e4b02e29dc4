"""Commands for other processes: dispatched here, carried out by a worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from shop.eventsourcing.buses.bus import BusStatus
from shop.eventsourcing.buses.requests import RequestBus
from shop.eventsourcing.commands.command import (
    Command,
    CommandPayload,
    CommandResult,
    dispatch_in_turn,
)
from shop.eventsourcing.commands.module import Module, command_registry
from shop.eventsourcing.commands.wire import (
    Answer,
    CommandMessage,
    Done,
    Expired,
    Failed,
    NotTaken,
    command_subject,
    decode_answer,
    encode_message,
    error_of,
)
from shop.eventsourcing.errors import (
    BusClosedError,
    BusUnavailableError,
    MessageTooLargeError,
    NoAnswerError,
    NoResponderError,
    NoWorkerError,
    OutcomeUnknownError,
    PayloadError,
    StoreError,
    StoreUnavailableError,
    UnknownCommandError,
    WorkerFailedError,
)
from shop.eventsourcing.events.envelope import EnvelopeError, OmittedDataError, decode_event
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.retry import Backoff
from shop.eventsourcing.stores.store import EventStore, Query

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds to wait for the answer to a command before it is sent again, at first."""
MAX_PATIENCE = 2.0
"""The same, once an answer has failed to come."""
MAX_AHEAD = timedelta(days=1)
"""A worker's clock that is ahead of the one here by more than this is not allowed for."""
AHEAD_SECONDS = 60.0
"""How long it is remembered that a clock is ahead: either one may be set right."""
_COUNTED = ("sent", "retried", "not_taken", "unanswered", "no_worker", "outcome_unknown")


class _Unsettled(NamedTuple):
    """Why an attempt to have a command carried out is to be repeated."""

    reason: str
    begun: bool
    """Whether a worker may have begun with the command in this attempt."""


class RemoteCommandBus:
    """Has workers carry out commands, as :class:`CommandBus` does itself. Thread-safe.

    The workers are those that use the same event store. A command that was not answered in time is
    sent again under its own id, which is why it is done once all the same.
    """

    def __init__(
        self,
        bus: RequestBus,
        store: EventStore,
        modules: Iterable[Module],
    ) -> None:
        modules = tuple(modules)
        self._bus = bus
        self._store = store
        self._events = Registry([event for module in modules for event in module.events])
        self._identity: UUID | None = None
        self._ahead = timedelta()  # by how much the workers' clocks are, at most
        self._ahead_until = 0.0
        self._stopping = threading.Event()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._counting = threading.Lock()
        self.registry = command_registry(modules)

    def dispatch(self, command: Command[CommandPayload], *, timeout: float = 10.0) -> CommandResult:
        """Have a worker carry out a command: as :meth:`CommandBus.dispatch`.

        Raises what that raises, and besides:

        - :class:`NoWorkerError`: there is none, or all were busy; nothing was written
        - :class:`OutcomeUnknownError`: no worker told within ``timeout`` seconds what became of it
        - :class:`WorkerFailedError`: a bug, the worker met an unexpected error
        """
        name = command.name
        if name not in self.registry or self.registry[name] is not type(command.payload):
            raise UnknownCommandError(name)
        payload = self.registry.encode(command.payload)
        subject = self._subject(name)
        until = time.monotonic() + timeout
        backoff = Backoff(first=0.01, most=0.5)
        begun = False
        self._count("sent")
        while True:
            left = max(0.0, until - time.monotonic())
            message = self._message(command, payload, left, given_up_before=begun)
            patience = MAX_PATIENCE if begun else PATIENCE
            outcome = self._attempt(command, subject, message, min(patience, left), begun=begun)
            if isinstance(outcome, CommandResult):
                return outcome
            begun = begun or outcome.begun
            pause = min(backoff.next_delay(), max(0.0, until - time.monotonic()))
            if self._stopping.wait(pause) or time.monotonic() >= until:
                if begun:
                    self._count("outcome_unknown")
                    raise OutcomeUnknownError(command.id, name, timeout)
                self._count("no_worker")
                raise NoWorkerError(name, outcome.reason)
            self._count("retried")

    def dispatch_each(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """As :meth:`CommandBus.dispatch_each`, but one after the other; none after :meth:`stop`."""

        def dispatch(command: Command[CommandPayload]) -> CommandResult:
            if self._stopping.is_set():
                raise NoWorkerError(command.name, "the process here is stopping")
            return self.dispatch(command)

        return dispatch_in_turn(dispatch, commands)

    def check(self, *, timeout: float = 0.5) -> None:
        """Raise :class:`NoWorkerError` unless a worker answers within ``timeout`` seconds."""
        name = next(iter(self.registry)).wire.name
        try:
            self._bus.request(self._subject(name), b"", timeout=timeout)
        except (NoResponderError, NoAnswerError, BusUnavailableError, BusClosedError) as error:
            raise NoWorkerError("commands", str(error)) from error

    def status(self) -> BusStatus:
        """What became of the commands so far, in figures.

        ``sent`` counts commands, ``retried`` how often one was sent again. ``not_taken`` and
        ``unanswered`` count the reasons to send one again, ``no_worker`` and ``outcome_unknown``
        the errors that ended a dispatch.
        """
        return BusStatus(figures={f"commands_{n}_total": v for n, v in self._counts.items()})

    def stop(self) -> None:
        """End all waits for workers that do not answer; idempotent.

        Each command is still sent once, and its answer waited for as long as for any first one.
        """
        self._stopping.set()

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1

    def _subject(self, name: str) -> str:
        if self._identity is None:
            self._identity = self._store.info().identity
        return command_subject(self._identity, name)

    def _message(
        self,
        command: Command[CommandPayload],
        payload: bytes,
        left: float,
        *,
        given_up_before: bool,
    ) -> CommandMessage:
        if time.monotonic() > self._ahead_until:
            self._ahead = timedelta()
        deadline = datetime.now(UTC) + self._ahead + timedelta(seconds=left)
        return CommandMessage.of(
            command,
            payload,
            timeout=left,
            deadline=deadline,
            given_up_before=given_up_before,
        )

    def _attempt(
        self,
        command: Command[CommandPayload],
        subject: str,
        message: CommandMessage,
        timeout: float,
        *,
        begun: bool,
    ) -> CommandResult | _Unsettled:
        """Send a command once. ``begun`` says whether an earlier attempt may have begun with it.

        Raises what ends the dispatch.
        """
        try:
            answer = self._ask(subject, message, timeout)
            if isinstance(answer, Expired | NotTaken):
                return self._not_taken(answer)
            return self._outcome(command, answer)
        except (NoResponderError, BusUnavailableError, BusClosedError) as error:
            if not begun:
                self._count("no_worker")
                raise NoWorkerError(message.name, str(error)) from error
            return _Unsettled(str(error), begun=False)
        except (NoAnswerError, OutcomeUnknownError, StoreUnavailableError) as error:
            if isinstance(error, StoreUnavailableError) and not begun:
                raise  # the worker could not begin
            self._count("unanswered")
            logger.warning("command %s (%s) is sent again: %s", command.id, message.name, error)
            return _Unsettled(str(error), begun=True)

    def _not_taken(self, answer: Expired | NotTaken) -> _Unsettled:
        self._count("not_taken")
        if isinstance(answer, NotTaken):
            return _Unsettled(answer.reason, begun=False)
        self._allow_for(answer.now)
        return _Unsettled("it came too late", begun=False)

    def _ask(self, subject: str, message: CommandMessage, timeout: float) -> Answer:
        try:
            data = self._bus.request(subject, encode_message(message), timeout=timeout)
        except MessageTooLargeError as error:
            raise PayloadError(message.name, str(error)) from error
        return decode_answer(data)

    def _allow_for(self, now: datetime) -> None:
        """Allow for the clock of a worker that is ahead, and so took a command to be too late."""
        ahead = now - datetime.now(UTC)
        if self._ahead < ahead <= MAX_AHEAD:
            self._ahead = ahead
            self._ahead_until = time.monotonic() + AHEAD_SECONDS
            if ahead > timedelta(seconds=1):
                logger.warning("the clock of a worker is %s ahead of the one here", ahead)

    def _outcome(self, command: Command[CommandPayload], answer: Answer) -> CommandResult:
        if isinstance(answer, Done):
            with suppress(EnvelopeError, OmittedDataError, ValueError):
                events = self._recorded(command, answer)
                if answer.command_id == command.id and len(events) == answer.size:
                    return answer.result(events)
        error = error_of(answer)
        if error is not None:
            raise error
        kind = answer.__struct_config__.tag
        detail = f"its answer {kind!r} does not fit the command"
        if isinstance(answer, Failed):
            detail = answer.detail
        raise WorkerFailedError(command.id, command.name, detail)

    def _recorded(
        self, command: Command[CommandPayload], done: Done
    ) -> tuple[Event[EventData], ...]:
        if done.events is None:
            wanted = Query(after=done.position - done.size, to=done.position)
            try:
                return tuple(self._store.read(wanted))
            except StoreError as error:
                raise OutcomeUnknownError(command.id, command.name, 0.0) from error
        # A newer worker may record what this process does not know, but has to tell of.
        return tuple(
            decode_event(self._events, bytes(event), strict=False) for event in done.events
        )
