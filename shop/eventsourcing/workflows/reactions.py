"""The reactions of a workflow to the log: each event handled once, each command done once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, repeat, zip_longest
from typing import Any
from uuid import UUID, uuid5

from shop.eventsourcing.aggregates.aggregate import Aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.pipeline import CACHE_ROUNDS, Pipeline
from shop.eventsourcing.aggregates.repository import Repository
from shop.eventsourcing.aggregates.unit_of_work import Loading
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandRejected,
    StoreUnavailableError,
)
from shop.eventsourcing.events.event import AggregateRef
from shop.eventsourcing.following.follower import Progress, write_checkpoint
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.stores.store import EventStore, Query
from shop.eventsourcing.workflows.deciding import Delivery, DeliveryDecider
from shop.eventsourcing.workflows.instance import (
    CONFLICT_TIMEOUT,
    CommandRequested,
    Retried,
    WorkflowInstance,
)
from shop.eventsourcing.workflows.workflow import Workflow

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
        self._decider = DeliveryDecider(workflow, aggregates, commands)

    def advance(self, progress: Progress, to: int) -> Progress:
        """React to at most one batch of the events up to the position ``to``.

        When no event up to ``to`` concerns the workflow, nothing is written.
        """
        query = Query(names=self.event_names, after=progress.position, to=to, limit=_BATCH)
        events = list(self._events.read(query))
        if not events:
            return Progress(progress.committed, to)
        now = self._events.now()
        by_instance: defaultdict[UUID, list[Delivery]] = defaultdict(list)
        for event in events:
            id = self._workflow.instance_of(event)
            if id is not None:
                commit_id = uuid5(event.id, str(AggregateRef(self.name, id)))
                by_instance[id].append(Delivery(id, event, now, commit_id))
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

    def _handle_all(self, deliveries: Sequence[Delivery]) -> None:
        """Have several instances handle one event each, with as few appends as possible."""
        cached_only = repeat(Loading.CACHED_ONLY, CACHE_ROUNDS)
        for loading in chain(cached_only, repeat(Loading.CACHED)):
            if not deliveries:
                break
            deliveries = self._handle_together(deliveries, loading)

    def _handle_together(
        self, deliveries: Sequence[Delivery], loading: Loading
    ) -> Sequence[Delivery]:
        """Store the outcomes of several deliveries by one append, and handle alone what fails.

        Returns the deliveries left for the next call: those that concern what another one changes
        and those that missed aggregates in the cache. These aggregates are then loaded, all at
        once.
        """
        pipeline = Pipeline(self._aggregates)
        missed: list[tuple[type[Aggregate], UUID]] = []
        added: list[Delivery] = []
        later: list[Delivery] = []
        alone: list[Delivery] = []
        for delivery in deliveries:
            if isinstance(delivery.event.data, Retried):
                alone.append(delivery)  # it takes several commits
                continue
            work = pipeline.work(loading)
            draft, failed = None, False
            try:
                draft = self._decider.draft(delivery, work)
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

    def _handle_alone(self, delivery: Delivery) -> None:
        if isinstance(delivery.event.data, Retried):
            self._handle_retried(delivery)
        else:
            self._handle_with_retries(delivery)

    def _handle_retried(self, retried: Delivery) -> None:
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

    def _handle_with_retries(self, delivery: Delivery) -> None:
        """Have an instance handle an event and store the outcome, again after each conflict."""
        commit_id = delivery.commit_id
        # A command is carried out before a commit could find out that a cached state is old.
        may_be_cached = not isinstance(delivery.event.data, CommandRequested)
        retry = ConflictRetry(timeout=CONFLICT_TIMEOUT)
        for attempt in retry:
            with attempt:
                cached = may_be_cached and retry.attempts == 1
                work = self._decider.decide(delivery, Loading.CACHED if cached else Loading.CURRENT)
                if work is not None:
                    # Another process may come to another outcome, at another time. The first one
                    # stored counts: so the digest is no hash of the outcome.
                    work.commit(
                        commit_id=commit_id, digest=commit_id.bytes, metadata=delivery.metadata
                    )


def _request_retry(instance: WorkflowInstance) -> None:
    if not instance.exists:
        raise AggregateNotFoundError(instance.ref)
    if not instance.parked:
        raise CommandRejected("not-parked", f"{instance.ref} is not parked")
    if not instance.retrying:
        instance.record(Retried())
