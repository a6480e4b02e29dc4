"""The reactions of a workflow to the log: each trigger seen to once, each command carried out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid5

import msgspec

from shop.eventsourcing.command import Command, CommandBus
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandRejected,
    CommandTimeoutError,
    OutcomeUnknownError,
    StoreError,
)
from shop.eventsourcing.event import AggregateRef, Event, EventData, Metadata
from shop.eventsourcing.fold import Progress
from shop.eventsourcing.model import ModelStore
from shop.eventsourcing.repository import Aggregates, UnitOfWork
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.store import EventStore, Query
from shop.eventsourcing.workflow import Workflow
from shop.eventsourcing.workflow_instance import CommandRequested, Retried, WorkflowInstance

_PATIENCE = 10.0
"""Seconds for which conflicting writes are tried again."""

Run = Callable[[Sequence[Callable[[], None]]], None]
"""Calls all the functions, in any order or at once, and raises what one of them raised."""


class Reactions:
    """Has a workflow react to the events of the log. Thread-safe.

    Whatever it does is done once, whoever else does it at the same time or did it before: each
    trigger by its commit id, each command by its command id. So what a crash interrupted is simply
    done again, and the checkpoint only saves work.
    """

    def __init__(
        self,
        workflow: Workflow[Any],
        events: EventStore,
        models: ModelStore,
        aggregates: Aggregates,
        commands: CommandBus,
        *,
        run: Run,
        batch: int = 200,
    ) -> None:
        self._workflow = workflow
        self._events = events
        self._models = models
        self._aggregates = aggregates
        self._commands = commands
        self._run = run
        self._batch = batch

    def advance(self, progress: Progress, to: int) -> Progress:
        """React to at most one batch of the events up to the position ``to``.

        Each instance meets its events one after the other; several instances may do so at once.
        Where no event up to ``to`` concerns the workflow, nothing is written.
        """
        query = Query(
            names=self._workflow.event_names, after=progress.position, to=to, limit=self._batch
        )
        events = list(self._events.read(query))
        if not events:
            return Progress(progress.committed, to)
        now = self._events.now()
        by_instance: defaultdict[UUID, list[Event[EventData]]] = defaultdict(list)
        for event in events:
            id = self._workflow.instance_of(event)
            if id is not None:
                by_instance[id].append(event)
        self._run([partial(self._see_to, id, own, now) for id, own in by_instance.items()])
        reached = events[-1].position if len(events) == self._batch else to
        return self.commit(Progress(progress.committed, reached))

    def commit(self, progress: Progress) -> Progress:
        """Write a checkpoint: every event up to its position was seen to."""
        checkpoint = msgspec.structs.replace(progress.committed, position=progress.position)
        self._models.commit(progress.committed, checkpoint)
        return Progress(checkpoint, progress.position)

    def _see_to(self, id: UUID, events: Sequence[Event[EventData]], now: datetime) -> None:
        for event in events:
            if isinstance(event.data, Retried):
                self._try_again(id, event, now)
            else:
                commit_id = uuid5(event.id, str(AggregateRef(self._workflow.name, id)))
                self._take(id, event, now, commit_id)

    def _try_again(self, id: UUID, retried: Event[EventData], now: datetime) -> None:
        """See to what waits at a parked instance, until it fails again.

        What was tried for this retry and waits still has failed: a later retry is about it then.
        """
        tried: UUID | None = None
        while True:
            instance = self._aggregates.load(self._workflow.instances, id)
            if not instance.retrying or instance.waiting[0] == tried:
                return
            tried = first = instance.waiting[0]
            for trigger in self._events.read(Query(ids=[first])):
                self._take(id, trigger, now, uuid5(retried.id, str(first)), waited=True)

    def _take(
        self,
        id: UUID,
        trigger: Event[EventData],
        now: datetime,
        commit_id: UUID,
        *,
        waited: bool = False,
    ) -> None:
        """Have one instance react to one trigger, and store what comes of it.

        ``waited`` tells that the instance is parked and this is the first of what waits.
        """
        why = Metadata(
            correlation_id=trigger.metadata.correlation_id or trigger.id, causation_id=trigger.id
        )
        retry = ConflictRetry(timeout=_PATIENCE)
        for attempt in retry:
            with attempt:
                # Not for a command: it is carried out before the commit could find out.
                trust = retry.attempts == 1 and not isinstance(trigger.data, CommandRequested)
                work = self._decide(id, trigger, now, trust=trust, waited=waited)
                if work is not None:
                    # Another process may have come to something else, at another time: the
                    # first to store it has decided. The digest only tells whose commit it is.
                    work.commit(commit_id=commit_id, digest=commit_id.bytes, metadata=why)

    def _decide(
        self, id: UUID, trigger: Event[EventData], now: datetime, *, trust: bool, waited: bool
    ) -> UnitOfWork | None:
        """Record what comes of a trigger; ``None`` where nothing is to be stored.

        ``trust`` takes the instance as it was last seen: the commit finds out where that is wrong.
        """
        work = self._aggregates.work(trust=trust)
        instance = work.find(self._workflow.instances, id)
        if instance.parked and not waited:
            instance.defer(trigger)
            return work
        try:
            self._react(instance, trigger, now)
        except (StoreError, CommandTimeoutError, OutcomeUnknownError):
            raise  # no fault of the workflow's: it is tried again
        except Exception as error:  # noqa: BLE001 - whatever a handler raises has its instance parked
            if work.trusted:
                return self._decide(id, trigger, now, trust=False, waited=waited)
            work = self._aggregates.work()
            instance = work.find(self._workflow.instances, id)
            if not instance.exists:
                instance.begin()
            instance.park(trigger, error)
            return work
        if waited:
            instance.resume(trigger)
        elif not instance.changes and not self._is_handled(instance, trigger):
            return None
        return work

    def _is_handled(self, instance: WorkflowInstance, trigger: Event[EventData]) -> bool:
        """Whether the trigger is for a handler: then it is remembered though nothing was recorded.

        A command is remembered by its own id.
        """
        return (
            instance.exists
            and not instance.ended
            and not isinstance(trigger.data, CommandRequested)
        )

    def _react(self, instance: WorkflowInstance, trigger: Event[EventData], now: datetime) -> None:
        if isinstance(trigger.data, CommandRequested):
            self._carry_out(instance, trigger, trigger.data)
        elif not instance.ended and (instance.exists or self._workflow.begins(trigger)):
            self._workflow.react(trigger, instance, now)

    def _carry_out(
        self,
        instance: WorkflowInstance,
        trigger: Event[EventData],
        requested: CommandRequested,
    ) -> None:
        """Carry out a command, unless it was refused before; record a refusal."""
        if requested.command_id in instance.refused:
            return
        payload = self._commands.registry.convert(requested.command, 1, requested.payload)
        command = Command.new(
            payload,
            requested.aggregate_id,
            id=requested.command_id,
            correlation_id=trigger.metadata.correlation_id,
            causation_id=trigger.id,
            actor=str(instance.ref),
        )
        try:
            self._commands.dispatch(command, timeout=_PATIENCE)
        except CommandRejected as refusal:
            instance.refuse(requested, refusal.code, refusal.detail)
        except AggregateNotFoundError as error:
            instance.refuse(requested, "not-found", str(error))
