"""Read models of workflows: how each is doing, and the timers by the time at which they are due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

import msgspec

from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.events.times import microseconds, time_of
from shop.eventsourcing.models.model import ReadModel
from shop.eventsourcing.models.model_store import Filter, ModelStore
from shop.eventsourcing.models.reader import ModelReader
from shop.eventsourcing.models.session import ModelSession
from shop.eventsourcing.projections.projection import Projection, handles
from shop.eventsourcing.workflows.instance import (
    Parked,
    Phase,
    PhaseChanged,
    Resumed,
    TimerCancelled,
    TimerFired,
    TimerSet,
)


class WorkflowStatus(StrEnum):
    """The phase of a workflow, unless it is parked."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    FAILED = "failed"
    PARKED = "parked"


class PendingTimer(msgspec.Struct, frozen=True):
    """A timer that is set."""

    timer: str
    due: datetime


class WorkflowFailure(msgspec.Struct, frozen=True):
    """Why a workflow is parked: on which event its handler failed, and how."""

    error: str
    since: datetime
    trigger: str
    trigger_id: UUID


class WorkflowEntry(ReadModel, frozen=True):
    """An instance of a workflow."""

    indexes: ClassVar[tuple[str, ...]] = ("status",)

    workflow: str
    id: UUID
    status: WorkflowStatus
    phase: Phase
    reason: str
    timers: tuple[PendingTimer, ...] = ()
    failure: WorkflowFailure | None = None


class Timer(ReadModel, frozen=True):
    """A timer that is set, in the order of the times at which they are due."""

    indexes: ClassVar[tuple[str, ...]] = ("workflow",)
    ordered_by: ClassVar[str | None] = "due"

    workflow: str
    id: UUID
    timer: str
    due: int
    """Microseconds since 1970."""
    event_id: UUID
    """Of the event that set it."""
    position: int
    """Of the same event."""
    correlation_id: UUID | None

    @property
    def time(self) -> datetime:
        """When it is due."""
        return time_of(self.due)


class WorkflowList(Projection):
    """Follows the instances of all workflows."""

    name = "workflows"
    models = (WorkflowEntry, Timer)

    def model_ids(self, event: Event[EventData]) -> Iterable[str]:
        """Those of the instance, and of the timer that the event is about."""
        match event.data:
            case TimerSet(timer) | TimerCancelled(timer) | TimerFired(timer):
                return entry_id(event.aggregate), _timer_id(event.aggregate, timer)
        return (entry_id(event.aggregate),)

    @handles(PhaseChanged)
    def phase_changed(self, event: Event[PhaseChanged], models: ModelSession) -> None:
        ref, phase = event.aggregate, event.data.phase
        known = models.get(WorkflowEntry, entry_id(ref))
        entry = known or WorkflowEntry(ref.name, ref.id, WorkflowStatus(phase), phase, "")
        _put(models, ref, entry, phase=phase, reason=event.data.reason)

    @handles(TimerSet)
    def timer_set(self, event: Event[TimerSet], models: ModelSession) -> None:
        ref, timer = event.aggregate, event.data.timer
        entry = _entry(models, ref)
        others = (pending for pending in entry.timers if pending.timer != timer)
        _put(models, ref, entry, timers=(*others, PendingTimer(timer, event.data.due)))
        due = microseconds(event.data.due)
        correlation = event.metadata.correlation_id
        model = Timer(ref.name, ref.id, timer, due, event.id, event.position, correlation)
        models.put(_timer_id(ref, timer), model)

    @handles(TimerCancelled, TimerFired)
    def timer_gone(
        self, event: Event[TimerCancelled] | Event[TimerFired], models: ModelSession
    ) -> None:
        ref, timer = event.aggregate, event.data.timer
        entry = _entry(models, ref)
        left = tuple(pending for pending in entry.timers if pending.timer != timer)
        _put(models, ref, entry, timers=left)
        models.delete(Timer, _timer_id(ref, timer))

    @handles(Parked)
    def parked(self, event: Event[Parked], models: ModelSession) -> None:
        data = event.data
        failure = WorkflowFailure(data.error, event.time, data.trigger, data.trigger_id)
        _put(models, event.aggregate, _entry(models, event.aggregate), failure=failure)

    @handles(Resumed)
    def resumed(self, event: Event[Resumed], models: ModelSession) -> None:
        if not event.data.waiting:
            _put(models, event.aggregate, _entry(models, event.aggregate), failure=None)


def earliest_timers(models: ModelStore, workflow: str, count: int) -> Sequence[Timer]:
    """The timers of a workflow that are due first, as far as the models know."""
    filter = Filter(equal={"workflow": workflow}, limit=count)
    found = ModelReader(models, WorkflowList.name).find(Timer, filter)
    return [keyed.model for keyed in found.value]


def entry_id(ref: AggregateRef) -> str:
    """The id of the model of an instance: two workflows may look after the same aggregate."""
    return str(ref)


def _timer_id(ref: AggregateRef, timer: str) -> str:
    return f"{ref}/{timer}"


def _entry(models: ModelSession, ref: AggregateRef) -> WorkflowEntry:
    entry = models.get(WorkflowEntry, entry_id(ref))
    if entry is None:
        raise LookupError(f"{ref} never began")
    return entry


def _put(models: ModelSession, ref: AggregateRef, entry: WorkflowEntry, **changes: object) -> None:
    changed = msgspec.structs.replace(entry, **changes)
    status = WorkflowStatus.PARKED if changed.failure else WorkflowStatus(changed.phase)
    models.put(entry_id(ref), msgspec.structs.replace(changed, status=status))
