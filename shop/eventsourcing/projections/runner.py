"""Running a projection: a thread that keeps its models up to date."""

from __future__ import annotations

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.buses.bus import EventBus
from shop.eventsourcing.following.runner import LogRunner, Schedule
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.projections.fold import Fold
from shop.eventsourcing.projections.projection import Projection
from shop.eventsourcing.stores.store import EventStore


class ProjectionRunner(LogRunner):
    """Owns the thread of one projection, which keeps its models up to date.

    As :class:`LogRunner`; when a handler fails, the models stay as they were before that event.
    ``aggregates`` as in :class:`Fold`.
    """

    def __init__(
        self,
        projection: Projection,
        events: EventStore,
        models: ModelStore,
        bus: EventBus,
        *,
        aggregates: Aggregates | None = None,
        schedule: Schedule = Schedule(),
    ) -> None:
        super().__init__(
            Fold(projection, events, models, aggregates),
            events,
            models,
            bus,
            kind="projection",
            schedule=schedule,
        )
        self.projection = projection
