"""Folding the log into the models of a projection, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.errors import StoreError
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.following.follower import FollowerError, Progress
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.models.session import ModelSession
from shop.eventsourcing.projections.projection import Projection
from shop.eventsourcing.stores.store import EventStore, Query


class Fold:
    """Moves the models of one projection along the log: a :class:`Follower`.

    Stateless and thread-safe. ``aggregates`` are for projections that derive models from them: best
    those in use, which have them in their cache. Others replay a long stream for each event.
    """

    def __init__(
        self,
        projection: Projection,
        events: EventStore,
        models: ModelStore,
        aggregates: Aggregates | None = None,
        *,
        batch: int = 500,
    ) -> None:
        self.name = projection.name
        self.event_names = projection.event_names
        self.shape = projection.shape
        self.collections = projection.collections
        self._projection = projection
        self._events = events
        self._models = models
        self._aggregates = aggregates or Aggregates(events)
        self._batch = batch

    def advance(self, progress: Progress, to: int) -> Progress:
        """Fold at most one batch of the events up to the position ``to``.

        Models and checkpoint are committed together. When no event up to ``to`` concerns the
        projection, nothing is written. When a handler raises, what came before its event is
        committed, and :class:`FollowerError` is raised from the handler's error.
        """
        query = Query(names=self.event_names, after=progress.position, to=to, limit=self._batch)
        events = list(self._events.read(query))
        if not events:
            return Progress(progress.committed, to)
        reached = events[-1].position if len(events) == self._batch else to
        return self._fold(progress, events, reached)

    def _fold(
        self, progress: Progress, events: Sequence[Event[EventData]], reached: int
    ) -> Progress:
        committed = progress.committed
        session = ModelSession(
            self._models,
            self.name,
            committed.generation,
            models=self._projection.models,
        )
        if len(events) > 1:
            ids = frozenset(id for event in events for id in self._projection.model_ids(event))
            session.preload(self.collections, ids)
        for event in self._projection.relevant(events):
            session.position = event.position
            try:
                self._projection.apply(event, session, self._aggregates)
            except StoreError:
                raise
            except Exception as error:  # whatever a handler raises is the projection's failure
                before = [e for e in events if e.position < event.position]
                if before:
                    progress = self._fold(progress, before, event.position - 1)
                raise FollowerError(progress, event, error) from error
        checkpoint = msgspec.structs.replace(committed, position=reached)
        self._models.commit(committed, checkpoint, session.changes())
        return Progress(checkpoint, reached)
