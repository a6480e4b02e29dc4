"""Projections and workflows that are moved by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.following.follower import Follower, Progress
from shop.eventsourcing.models.model import ReadModel
from shop.eventsourcing.models.model_store import Checkpoint, ModelStore
from shop.eventsourcing.models.reader import ModelReader
from shop.eventsourcing.projections.fold import Fold
from shop.eventsourcing.projections.projection import Projection
from shop.eventsourcing.stores.store import EventStore, Query
from shop.eventsourcing.workflows.models import WorkflowList, earliest_timers
from shop.eventsourcing.workflows.reactions import Reactions
from shop.eventsourcing.workflows.timers import Timers
from shop.eventsourcing.workflows.workflow import Workflow

_MOST_ROUNDS = 10_000


class Background:
    """What threads would do, step by step: with workflows, their list is kept as well.

    What a handler of a projection raises comes out as
    :class:`~shop.eventsourcing.following.follower.FollowerError`. For one thread.
    """

    def __init__(
        self,
        events: EventStore,
        models: ModelStore,
        aggregates: Aggregates,
        commands: CommandBus,
        *,
        projections: Iterable[Projection] = (),
        workflows: Iterable[Workflow[Any]] = (),
    ) -> None:
        self._events = events
        self._models = models
        workflows, known = list(workflows), {p.name: p for p in projections}
        if workflows:
            known.setdefault(WorkflowList.name, WorkflowList())
        self._projections = known.values()
        models.prepare([c for projection in self._projections for c in projection.collections])
        self._folds = [
            Fold(projection, events, models, aggregates) for projection in self._projections
        ]
        self._reactions = [
            Reactions(workflow, events, models, aggregates, commands) for workflow in workflows
        ]
        self._workflows = [workflow.name for workflow in workflows]
        self._timers = [Timers(workflow, events, models, aggregates) for workflow in workflows]

    def react(self) -> bool:
        """Have each workflow react to a batch of events at most; whether that were all."""
        return self._advance(self._reactions)

    def show(self) -> bool:
        """Have each projection fold a batch of events at most; whether that were all."""
        return self._advance(self._folds)

    def fire(self) -> int:
        """Fire what is due, as far as the read models know; return how many timers that were."""
        return sum(timers.fire().fired for timers in self._timers)

    def due(self) -> datetime | None:
        """When the next timer is due, as far as the read models know; ``None`` when none is set."""
        earliest = [
            timer for name in self._workflows for timer in earliest_timers(self._models, name, 1)
        ]
        return min((timer.time for timer in earliest), default=None)

    def settle(self) -> None:
        """Do all there is to do by now, and all that comes of it.

        Raises ``RuntimeError`` where that comes to no end.
        """
        for _ in range(_MOST_ROUNDS):
            head = self._events.head()
            reacted, shown, fired = self.react(), self.show(), self.fire()
            if reacted and shown and not fired and self._events.head() == head:
                return
        last = reversed(list(self._events.read(Query(reverse=True, limit=4))))
        told = ", ".join(f"{event.name} of {event.aggregate}" for event in last)
        raise RuntimeError(
            f"there is something left to do after {_MOST_ROUNDS} rounds; what happened last: {told}"
        )

    def reader(self, cls: type[ReadModel]) -> ModelReader:
        """What reads models of that class. Raises ``LookupError`` where no projection has it."""
        for projection in self._projections:
            if cls in projection.models:
                return ModelReader(self._models, projection.name)
        raise LookupError(f"no projection has {cls.__qualname__} among its models")

    def _advance(self, followers: Iterable[Follower]) -> bool:
        head = self._events.head()
        reached = [follower.advance(self._begin(follower), head) for follower in followers]
        return all(progress.position == head for progress in reached)

    def _begin(self, follower: Follower) -> Progress:
        known = self._models.checkpoint(follower.name)
        if known is None:
            known = Checkpoint(follower.name, 1, 0, follower.shape, self._events.info().identity)
            self._models.commit(None, known)
        return Progress(known, known.position)
