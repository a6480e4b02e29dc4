"""The reactions of a workflow to the log: each event handled once, each command done once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import chain, repeat, zip_longest
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from shop.eventsourcing.aggregates.aggregate import Aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.pipeline import CACHE_ROUNDS, Draft, Pipeline
from shop.eventsourcing.aggregates.repository import Repository
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.commands.command import Command, CommandPayload
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandRejected,
    CommandTimeoutError,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, Metadata
from shop.eventsourcing.following.follower import Progress, write_checkpoint
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.stores.store import EventStore, Query
from shop.eventsourcing.workflows.instance import (
    CONFLICT_TIMEOUT,
    CommandRefused,
    CommandRequested,
    Deferred,
    Parked,
    Phase,
    PhaseChanged,
    Resumed,
    Retried,
    WorkflowInstance,
)
from shop.eventsourcing.workflows.workflow import Workflow

logger = logging.getLogger(__name__)

_BATCH = 200
"""Events that are reacted to between two checkpoints, at most."""


class Reactions:
    """Has a workflow react to the events of the log: a :class:`Follower`. Thread-safe.

    Each instance handles the events of a batch one after the other. Several instances handle one
    event each together: they decide on their cached states, and one append stores the outcomes.
    After a conflict or a failure, an instance handles its event alone, on its fresh state. When
    the handler fails even so, the instance is parked.

    An outcome is stored under a commit id that derives from the event, and a command has an id of
    its own. So everything is done once, although other processes may do the same and a crash may
    have it done again. The checkpoint only saves work.
    """

    shape = "workflow"  # always: new code does not ask for old events again
    collections: tuple[Collection, ...] = ()

    def __init__(
        self,
        workflow: Workflow[Any],
        events: EventStore,
        models: ModelStore,
        aggregates: Aggregates,
        commands: CommandBus,
    ) -> None:
        self.name = workflow.name
        self.event_names = workflow.event_names
        self._workflow = workflow
        self._events = events
        self._models = models
        self._aggregates = aggregates
        self._commands = commands

    def advance(self, progress: Progress, to: int) -> Progress:
        """React to at most one batch of the events up to the position ``to``.

        When no event up to ``to`` concerns the workflow, nothing is written.
        """
        query = Query(names=self.event_names, after=progress.position, to=to, limit=_BATCH)
        events = list(self._events.read(query))
        if not events:
            return Progress(progress.committed, to)
        now = self._events.now()
        by_instance: defaultdict[UUID, list[_Delivery]] = defaultdict(list)
        for event in events:
            id = self._workflow.instance_of(event)
            if id is not None:
                commit_id = uuid5(event.id, str(AggregateRef(self.name, id)))
                by_instance[id].append(_Delivery(id, event, now, commit_id))
        for turn in zip_longest(*by_instance.values()):
            self._handle_all([delivery for delivery in turn if delivery is not None])
        reached = events[-1].position if len(events) == _BATCH else to
        return write_checkpoint(self._models, Progress(progress.committed, reached))

    def retry(self, id: UUID) -> None:
        """Have a parked instance try again: :meth:`advance` does it when it meets the request.

        Raises :class:`CommandRejected` when the instance is not parked, and
        :class:`AggregateNotFoundError` when it never began.
        """
        Repository(self._aggregates, self._workflow.instances).use(id, _request_retry)

    def _handle_all(self, deliveries: Sequence[_Delivery]) -> None:
        """Have several instances handle one event each, with as few appends as possible."""
        cached_only = repeat(Loading.CACHED_ONLY, CACHE_ROUNDS)
        for loading in chain(cached_only, repeat(Loading.CACHED)):
            if not deliveries:
                break
            deliveries = self._handle_together(deliveries, loading)

    def _handle_together(
        self, deliveries: Sequence[_Delivery], loading: Loading
    ) -> Sequence[_Delivery]:
        """Store the outcomes of several deliveries by one append, and handle alone what fails.

        Returns the deliveries left for the next call: those that concern what another one changes
        and those that missed aggregates in the cache. These aggregates are then loaded, all at
        once.
        """
        pipeline = Pipeline(self._aggregates)
        missed: list[tuple[type[Aggregate], UUID]] = []
        added: list[_Delivery] = []
        later: list[_Delivery] = []
        alone: list[_Delivery] = []
        for delivery in deliveries:
            if isinstance(delivery.event.data, Retried):
                alone.append(delivery)  # it takes several commits
                continue
            work = pipeline.work(loading)
            draft, failed = None, False
            try:
                draft = self._draft(delivery, work)
            except StoreUnavailableError:
                raise  # it is unavailable for the others as well
            except Exception:  # noqa: BLE001 - the cached states may be out of date
                failed = True
            if work.missed:
                missed += work.missed
                later.append(delivery)
            elif failed:
                alone.append(delivery)
            elif draft is not None:
                (added if pipeline.add(draft) else later).append(delivery)
        for delivery, outcome in zip(added, pipeline.commit(), strict=True):
            if isinstance(outcome, Exception):
                alone.append(delivery)
        for delivery in alone:
            self._handle_alone(delivery)
        self._aggregates.preload(missed)
        return later

    def _draft(self, delivery: _Delivery, work: UnitOfWork) -> Draft | None:
        """The outcome of a delivery, for a pipeline; ``None`` when there is nothing to store.

        Raises when the delivery has to be handled alone.
        """
        event = delivery.event
        instance = work.find(self._workflow.instances, delivery.instance_id)
        if isinstance(event.data, CommandRequested) and not instance.parked:
            if event.data.command_id in instance.refused:
                return None
            # The instance is guarded with it: nobody has recorded a refusal meanwhile.
            return self._commands.draft(self._command(instance, event, event.data), work)
        if not self._record_outcome(instance, delivery):
            if not instance.exists:
                raise AggregateNotFoundError(instance.ref)  # it may have begun since
            return None
        commit_id = delivery.commit_id
        return Draft(work, commit_id, commit_id.bytes, delivery.metadata)

    def _handle_alone(self, delivery: _Delivery) -> None:
        if isinstance(delivery.event.data, Retried):
            self._handle_retried(delivery)
        else:
            self._handle_with_retries(delivery)

    def _handle_retried(self, retried: _Delivery) -> None:
        """Have a parked instance handle the events that wait, until it fails again.

        It has failed when the event that waits first is still the one tried last. That one is
        tried again only by a later retry.
        """
        tried: UUID | None = None
        while True:
            instance = self._aggregates.load(self._workflow.instances, retried.instance_id)
            if not instance.retrying or instance.waiting[0] == tried:
                return
            tried = instance.waiting[0]
            commit_id = uuid5(retried.event.id, str(tried))
            for event in self._events.read(Query(ids=[tried])):
                self._handle_with_retries(
                    retried._replace(event=event, commit_id=commit_id, waited=True)
                )

    def _handle_with_retries(self, delivery: _Delivery) -> None:
        """Have an instance handle an event and store the outcome, again after each conflict."""
        commit_id = delivery.commit_id
        # A command is carried out before a commit could find out that a cached state is old.
        may_be_cached = not isinstance(delivery.event.data, CommandRequested)
        retry = ConflictRetry(timeout=CONFLICT_TIMEOUT)
        for attempt in retry:
            with attempt:
                cached = may_be_cached and retry.attempts == 1
                work = self._decide(delivery, Loading.CACHED if cached else Loading.CURRENT)
                if work is not None:
                    # Another process may come to another outcome, at another time. The first one
                    # stored counts: so the digest is no hash of the outcome.
                    work.commit(
                        commit_id=commit_id, digest=commit_id.bytes, metadata=delivery.metadata
                    )

    def _decide(self, delivery: _Delivery, loading: Loading) -> UnitOfWork | None:
        """Record the outcome of a delivery; ``None`` when there is nothing to store.

        On the cached state of the instance it is decided again on the current one when the handler
        fails, or when by the cache there is no instance. Otherwise the commit finds out whether the
        cached state was stale.
        """
        work = UnitOfWork(self._aggregates, loading=loading)
        instance = work.find(self._workflow.instances, delivery.instance_id)
        try:
            if self._record_outcome(instance, delivery):
                return work
        except (StoreError, CommandTimeoutError, OutcomeUnknownError):
            raise  # no fault of the workflow's: it is tried again
        except Exception as error:  # noqa: BLE001 - the log and the instance tell
            if work.may_be_stale:
                return self._decide(delivery, Loading.CURRENT)
            return self._park(delivery, error)
        if work.may_be_stale and not instance.exists:
            return self._decide(delivery, Loading.CURRENT)
        return None

    def _park(self, delivery: _Delivery, error: Exception) -> UnitOfWork:
        """Record that an instance stands still from now on, as it failed on an event."""
        event = delivery.event
        work = UnitOfWork(self._aggregates)
        instance = work.find(self._workflow.instances, delivery.instance_id)
        if not instance.exists:
            instance.record(PhaseChanged(Phase.RUNNING))
        instance.record(Parked(event.id, event.name, f"{type(error).__name__}: {error}"))
        logger.error(
            "%s is parked, as it failed on event %s (%s) at position %d",
            instance.ref,
            event.id,
            event.name,
            event.position,
            exc_info=error,
        )
        return work

    def _record_outcome(self, instance: WorkflowInstance, delivery: _Delivery) -> bool:
        """Have an instance record the outcome of an event. Whether there is anything to store."""
        event = delivery.event
        if instance.parked and not delivery.waited:
            if event.id not in instance.waiting:
                instance.record(Deferred(event.id))
            return True
        if isinstance(event.data, CommandRequested):
            self._carry_out(instance, event, event.data)
        elif not instance.ended and (instance.exists or self._workflow.begins(event)):
            self._workflow.react(event, instance, delivery.now)
        if delivery.waited:
            instance.record(Resumed(event.id, waiting=len(instance.waiting) - 1))
        return bool(instance.changes) or _was_handled(instance, event)

    def _carry_out(
        self, instance: WorkflowInstance, event: Event[EventData], requested: CommandRequested
    ) -> None:
        """Carry out a command, unless it was refused before; record a refusal."""
        if requested.command_id in instance.refused:
            return
        command = self._command(instance, event, requested)
        try:
            self._commands.dispatch(command, timeout=CONFLICT_TIMEOUT)
        except CommandRejected as refusal:
            code, detail = refusal.code, refusal.detail
        except AggregateNotFoundError as error:
            code, detail = "not-found", str(error)
        else:
            return
        instance.record(CommandRefused(command.id, requested.command, code, detail))

    def _command(
        self, instance: WorkflowInstance, event: Event[EventData], requested: CommandRequested
    ) -> Command[CommandPayload]:
        payload = self._commands.registry.convert(requested.command, 1, requested.payload)
        return Command.new(
            payload,
            requested.aggregate_id,
            id=requested.command_id,
            correlation_id=event.metadata.correlation_id,
            causation_id=event.id,
            actor=str(instance.ref),
        )


def _was_handled(instance: WorkflowInstance, event: Event[EventData]) -> bool:
    """Whether a handler was called: that is stored even when the handler recorded nothing.

    Not for a request of a command: the command is stored under an id of its own.
    """
    return instance.exists and not instance.ended and not isinstance(event.data, CommandRequested)


def _request_retry(instance: WorkflowInstance) -> None:
    if not instance.exists:
        raise AggregateNotFoundError(instance.ref)
    if not instance.parked:
        raise CommandRejected("not-parked", f"{instance.ref} is not parked")
    if not instance.retrying:
        instance.record(Retried())


class _Delivery(NamedTuple):
    """An event for an instance to handle.

    ``now`` is the time that the handler gets, and ``commit_id`` the id under which the outcome is
    stored. ``waited`` means that the instance is parked and the event is the first that waits.
    """

    instance_id: UUID
    event: Event[EventData]
    now: datetime
    commit_id: UUID
    waited: bool = False

    @property
    def metadata(self) -> Metadata:
        """What the events of the outcome say about why they happened."""
        cause = self.event
        return Metadata(
            correlation_id=cause.metadata.correlation_id or cause.id, causation_id=cause.id
        )
