"""Instances of workflows: aggregates whose events tell what was triggered, and what is to be done.

Their events are the same for all workflows. What a workflow wants to have done, it records: a
command, a timer. Only the runtime does it, when it meets the event in the log.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid5

import msgspec

from shop.eventsourcing.aggregates.aggregate import Aggregate, applies
from shop.eventsourcing.commands.command import CommandPayload
from shop.eventsourcing.events.event import Event, EventData, event

CONFLICT_TIMEOUT = 10.0
"""Seconds for which the runtime tries a change of instances again that meets conflicting writes."""


class Phase(StrEnum):
    """How far a workflow has come. The last three are final: it reacts to nothing any more."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    FAILED = "failed"


_FINAL = frozenset({Phase.COMPLETED, Phase.COMPENSATED, Phase.FAILED})


@event("workflow.phase_changed")
class PhaseChanged(EventData, frozen=True):
    """A workflow began, or went on to another phase."""

    phase: Phase
    reason: str = ""


@event("workflow.timer_set")
class TimerSet(EventData, frozen=True):
    """A workflow set a timer, in the place of its earlier one of that name, if there was one."""

    timer: str
    due: datetime


@event("workflow.timer_cancelled")
class TimerCancelled(EventData, frozen=True):
    """A workflow cancelled a timer."""

    timer: str


@event("workflow.timer_fired")
class TimerFired(EventData, frozen=True):
    """A timer's time had come."""

    timer: str


@event("workflow.command_requested")
class CommandRequested(EventData, frozen=True):
    """A workflow wants a command to be carried out."""

    command_id: UUID
    command: str
    aggregate_id: UUID | None
    payload: dict[str, Any]


@event("workflow.command_refused")
class CommandRefused(EventData, frozen=True):
    """A command that a workflow wanted was refused by a business rule."""

    command_id: UUID
    command: str
    code: str
    detail: str


@event("workflow.parked")
class Parked(EventData, frozen=True):
    """A workflow failed on a trigger, and stands still until it is retried."""

    trigger_id: UUID
    trigger: str
    error: str


@event("workflow.deferred")
class Deferred(EventData, frozen=True):
    """A trigger came while the workflow stood still; it has to wait."""

    trigger_id: UUID


@event("workflow.retried")
class Retried(EventData, frozen=True):
    """Somebody wants a workflow that stands still to try again."""


@event("workflow.resumed")
class Resumed(EventData, frozen=True):
    """A trigger that had waited was handled. ``waiting`` is how many still wait."""

    trigger_id: UUID
    waiting: int


class WorkflowInstance(Aggregate):
    """Base of the instances of workflows: subclass it, decorated with ``@aggregate(name)``.

    The subclass may have state and events of its own, as any aggregate. The methods are for the
    handlers: what only the runtime may say, such as that a timer fired, it records itself.
    """

    phase: Phase | None = None
    """``None`` before it has begun."""
    reason: str = ""
    """Why it is in that phase, as the handler said."""
    timers: dict[str, datetime] = {}
    """When each timer that is set is due."""
    waiting: list[UUID] = []
    """Ids of the events that wait to be handled; the first is the one it failed on."""
    retrying: bool = False
    """Whether somebody asked that the waiting events be tried again."""
    refused: list[UUID] = []
    """Ids of commands that were refused."""

    @property
    def ended(self) -> bool:
        """Whether it is in a final phase."""
        return self.phase in _FINAL

    @property
    def parked(self) -> bool:
        """Whether it stands still, since it failed on a trigger."""
        return bool(self.waiting)

    def set_timer(self, timer: str, due: datetime) -> None:
        """Have the handler of the timer called when that time has come by the store's clock.

        A timer of the same name is replaced. Raises ``ValueError`` for a time without a time zone.
        """
        if due.tzinfo is None:
            raise ValueError("the time at which a timer is due needs a time zone")
        if self.timers.get(timer) != due:
            self.record(TimerSet(timer, due.astimezone(UTC)))

    def cancel_timer(self, timer: str) -> None:
        """Cancel a timer, if it is set."""
        if timer in self.timers:
            self.record(TimerCancelled(timer))

    def request(self, payload: CommandPayload, aggregate_id: UUID | None = None) -> UUID:
        """Have a command carried out, once; return its id.

        ``aggregate_id`` may be left out when the command creates its aggregate. A refusal calls
        the handler marked with ``@when_refused``.
        """
        command_id = uuid5(self.id, f"{self.kind} {self.version + 1}")
        fields = msgspec.to_builtins(payload)
        self.record(CommandRequested(command_id, payload.wire.name, aggregate_id, fields))
        return command_id

    def complete(self, reason: str = "") -> None:
        """End as it should. Timers that are still set are cancelled, at every end."""
        self._change(Phase.COMPLETED, reason)

    def compensate(self, reason: str = "") -> None:
        """Begin to undo what was done."""
        self._change(Phase.COMPENSATING, reason)

    def compensated(self, reason: str = "") -> None:
        """End, with everything undone."""
        self._change(Phase.COMPENSATED, reason)

    def fail(self, reason: str) -> None:
        """End, neither completed nor with everything undone."""
        self._change(Phase.FAILED, reason)

    def asked_for(self, event: Event[EventData]) -> bool:
        """Whether the event came of a command that this workflow requested."""
        return event.metadata.actor == str(self.ref)

    def _change(self, phase: Phase, reason: str) -> None:
        if self.ended and phase != self.phase:
            raise ValueError(f"it is {self.phase}, which is final: it cannot be {phase}")
        if phase in _FINAL:
            for timer in list(self.timers):
                self.cancel_timer(timer)
        if phase != self.phase:
            self.record(PhaseChanged(phase, reason))

    @applies(PhaseChanged)
    def _phase_changed(self, data: PhaseChanged) -> None:
        self.phase = data.phase
        self.reason = data.reason

    @applies(TimerSet)
    def _timer_set(self, data: TimerSet) -> None:
        self.timers[data.timer] = data.due

    @applies(TimerCancelled)
    def _timer_cancelled(self, data: TimerCancelled) -> None:
        self.timers.pop(data.timer, None)

    @applies(TimerFired)
    def _timer_fired(self, data: TimerFired) -> None:
        self.timers.pop(data.timer, None)

    @applies(CommandRequested)
    def _command_requested(self, data: CommandRequested) -> None:
        """What is to be done is in the log, not in the state."""

    @applies(CommandRefused)
    def _command_refused(self, data: CommandRefused) -> None:
        self.refused.append(data.command_id)

    @applies(Parked)
    def _parked(self, data: Parked) -> None:
        if data.trigger_id not in self.waiting:
            self.waiting.append(data.trigger_id)
        self.retrying = False

    @applies(Deferred)
    def _deferred(self, data: Deferred) -> None:
        self.waiting.append(data.trigger_id)

    @applies(Retried)
    def _retried(self, data: Retried) -> None:
        self.retrying = True

    @applies(Resumed)
    def _resumed(self, data: Resumed) -> None:
        self.waiting.remove(data.trigger_id)
        self.retrying = self.retrying and self.parked
