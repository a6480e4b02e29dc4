"""The reactions of a workflow to the log: each trigger seen to once, each command carried out."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import chain, repeat, zip_longest
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec

from shop.eventsourcing.aggregate import Aggregate
from shop.eventsourcing.aggregates import Aggregates
from shop.eventsourcing.command import Command, CommandPayload
from shop.eventsourcing.command_bus import LOOKS, CommandBus
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
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.store import EventStore, Query
from shop.eventsourcing.unit_of_work import Draft, Pipeline, UnitOfWork
from shop.eventsourcing.workflow import Workflow
from shop.eventsourcing.workflow_instance import CommandRequested, Retried, WorkflowInstance

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds for which conflicting writes are tried again."""


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
        batch: int = 200,
    ) -> None:
        self._workflow = workflow
        self._events = events
        self._models = models
        self._aggregates = aggregates
        self._commands = commands
        self._batch = batch

    def advance(self, progress: Progress, to: int) -> Progress:
        """React to at most one batch of the events up to the position ``to``.

        Each instance meets its events one after the other, and several instances meet one each
        at a time. Where no event up to ``to`` concerns the workflow, nothing is written.
        """
        query = Query(
            names=self._workflow.event_names, after=progress.position, to=to, limit=self._batch
        )
        events = list(self._events.read(query))
        if not events:
            return Progress(progress.committed, to)
        now = self._events.now()
        by_instance: defaultdict[UUID, list[_Trigger]] = defaultdict(list)
        for event in events:
            id = self._workflow.instance_of(event)
            if id is not None:
                by_instance[id].append(_Trigger(id, event))
        for turn in zip_longest(*by_instance.values()):
            self._see_to_all([trigger for trigger in turn if trigger is not None], now)
        reached = events[-1].position if len(events) == self._batch else to
        return self.commit(Progress(progress.committed, reached))

    def commit(self, progress: Progress) -> Progress:
        """Write a checkpoint: every event up to its position was seen to."""
        checkpoint = msgspec.structs.replace(progress.committed, position=progress.position)
        self._models.commit(progress.committed, checkpoint)
        return Progress(checkpoint, progress.position)

    def _see_to_all(self, triggers: Sequence[_Trigger], now: datetime) -> None:
        """Have several instances see to one event each, with as few appends as may be."""
        for look in chain(repeat(False, LOOKS), repeat(True)):
            if not triggers:
                break
            triggers = self._see_to_some(triggers, now, look=look)

    def _see_to_some(
        self, triggers: Sequence[_Trigger], now: datetime, *, look: bool
    ) -> Sequence[_Trigger]:
        """Have those see to their events who can do so together, and those who must do so alone.

        Returns what is left. Without ``look`` that are those, too, who missed what has been looked
        for since.
        """
        pipeline = Pipeline(self._aggregates)
        unseen: list[tuple[type[Aggregate], UUID]] = []
        added: list[_Trigger] = []
        later: list[_Trigger] = []
        alone: list[_Trigger] = []
        for trigger in triggers:
            if isinstance(trigger.event.data, Retried):
                alone.append(trigger)  # it takes several commits
                continue
            work = pipeline.work(look=look)
            draft, failed = None, False
            try:
                draft = self._draft(trigger, now, work)
            except Exception:  # noqa: BLE001 - it may rest on what is so no longer
                failed = True
            if work.unseen:
                unseen += work.unseen
                later.append(trigger)
            elif failed:
                alone.append(trigger)
            elif draft is not None:
                (added if pipeline.add(draft) else later).append(trigger)
        for trigger, outcome in zip(added, pipeline.commit(), strict=True):
            if isinstance(outcome, Exception):
                alone.append(trigger)
        for trigger in alone:
            self._see_to(trigger, now)
        self._aggregates.preload(unseen)
        return later

    def _draft(self, trigger: _Trigger, now: datetime, work: UnitOfWork) -> Draft | None:
        """What a pipeline is to store for a trigger; ``None`` where that is nothing.

        Raises what keeps the trigger from being seen to together with others.
        """
        id, event = trigger
        instance = work.find(self._workflow.instances, id)
        if isinstance(event.data, CommandRequested) and not instance.parked:
            if event.data.command_id in instance.refused:
                return None
            # The instance is guarded with it: nobody has recorded a refusal meanwhile.
            return self._commands.draft(self._command(instance, event, event.data), work)
        if not self._record(instance, event, now, waited=False):
            if not instance.exists:
                raise AggregateNotFoundError(instance.ref)  # it may have begun since
            return None
        commit_id = self._commit_id(trigger)
        return Draft(work, commit_id, commit_id.bytes, _why(event))

    def _see_to(self, trigger: _Trigger, now: datetime) -> None:
        id, event = trigger
        if isinstance(event.data, Retried):
            self._try_again(id, event, now)
        else:
            self._take(id, event, now, self._commit_id(trigger))

    def _commit_id(self, trigger: _Trigger) -> UUID:
        return uuid5(trigger.event.id, str(AggregateRef(self._workflow.name, trigger.id)))

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
        why = _why(trigger)
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
        work = UnitOfWork(self._aggregates, trust=trust)
        instance = work.find(self._workflow.instances, id)
        try:
            if self._record(instance, trigger, now, waited=waited):
                return work
        except (StoreError, CommandTimeoutError, OutcomeUnknownError):
            raise  # no fault of the workflow's: it is tried again
        except Exception as error:
            if work.trusted:
                return self._decide(id, trigger, now, trust=False, waited=waited)
            work = UnitOfWork(self._aggregates)
            instance = work.find(self._workflow.instances, id)
            if not instance.exists:
                instance.begin()
            instance.park(trigger, error)
            logger.error(
                "%s is parked, as it failed on event %s (%s) at position %d",
                instance.ref,
                trigger.id,
                trigger.name,
                trigger.position,
                exc_info=error,
            )
            return work
        if work.trusted and not instance.exists:
            return self._decide(id, trigger, now, trust=False, waited=waited)
        return None

    def _record(
        self, instance: WorkflowInstance, trigger: Event[EventData], now: datetime, *, waited: bool
    ) -> bool:
        """Have an instance record what comes of a trigger. Whether there is anything to store."""
        if instance.parked and not waited:
            instance.defer(trigger)
            return True
        self._react(instance, trigger, now)
        if waited:
            instance.resume(trigger)
        return bool(instance.changes) or self._is_handled(instance, trigger)

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
        command = self._command(instance, trigger, requested)
        try:
            self._commands.dispatch(command, timeout=_PATIENCE)
        except CommandRejected as refusal:
            instance.refuse(requested, refusal.code, refusal.detail)
        except AggregateNotFoundError as error:
            instance.refuse(requested, "not-found", str(error))

    def _command(
        self, instance: WorkflowInstance, trigger: Event[EventData], requested: CommandRequested
    ) -> Command[CommandPayload]:
        payload = self._commands.registry.convert(requested.command, 1, requested.payload)
        return Command.new(
            payload,
            requested.aggregate_id,
            id=requested.command_id,
            correlation_id=trigger.metadata.correlation_id,
            causation_id=trigger.id,
            actor=str(instance.ref),
        )


class _Trigger(NamedTuple):
    """An event, and the id of the instance that it is for."""

    id: UUID
    event: Event[EventData]


def _why(trigger: Event[EventData]) -> Metadata:
    """What the events of a reaction say about why they happened."""
    return Metadata(
        correlation_id=trigger.metadata.correlation_id or trigger.id, causation_id=trigger.id
    )
