"""Timers of workflows: found by the time at which they are due, and fired once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.buses.bus import EventBus
from shop.eventsourcing.events.event import AggregateRef, Metadata
from shop.eventsourcing.following.failures import Failure, Failures
from shop.eventsourcing.following.runner import FollowerState
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.projections.runner import ProjectionRunner
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.stores.store import EventStore
from shop.eventsourcing.threads import BackgroundThread
from shop.eventsourcing.workflows.instance import CONFLICT_TIMEOUT, TimerFired, TimerSet
from shop.eventsourcing.workflows.models import Timer, WorkflowList, earliest_timers
from shop.eventsourcing.workflows.workflow import Workflow

_BATCH = 200
"""Due timers that are looked at together, and fire in one commit."""


class Look(msgspec.Struct, frozen=True):
    """What a look at the timers found, at a time by the store's clock.

    ``due`` is when the earliest timer is or was due, ``None`` when none is set. If it was due,
    ``position`` is the end of the log after it and others had fired.
    """

    now: datetime
    due: datetime | None = None
    position: int | None = None
    fired: int = 0


class Timers:
    """Fires the timers of one workflow. Thread-safe; several processes may do it at once.

    Each timer fires once, since its instance records that in a commit. A second process meets a
    conflict, and then finds that the timer is no longer set.
    """

    def __init__(
        self,
        workflow: Workflow[Any],
        events: EventStore,
        models: ModelStore,
        aggregates: Aggregates,
    ) -> None:
        self._instances = workflow.instances
        self._workflow = workflow.name
        self._events = events
        self._models = models
        self._prepared = False
        self._aggregates = aggregates

    def fire(self) -> Look:
        """Fire at most one batch of the timers that are due by the store's clock.

        Costs the same however many timers are set: only those that are due are looked at.
        """
        if not self._prepared:
            self._models.prepare(WorkflowList().collections)
            self._prepared = True
        earliest = earliest_timers(self._models, self._workflow, 1)
        now = self._events.now()
        if not earliest:
            return Look(now)
        if earliest[0].time > now:
            return Look(now, earliest[0].time)
        due = [t for t in earliest_timers(self._models, self._workflow, _BATCH) if t.time <= now]
        due.sort(key=lambda timer: (timer.due, timer.position))
        retry = ConflictRetry(timeout=CONFLICT_TIMEOUT)
        for attempt in retry:
            with attempt:
                first = retry.attempts == 1
                fired = self._fire(due, now, Loading.CACHED if first else Loading.CURRENT)
        return Look(now, earliest[0].time, self._events.head(), fired)

    def _fire(self, due: Sequence[Timer], now: datetime, loading: Loading) -> int:
        """Have the instances of these timers record that they fired, in one commit.

        The read models may be behind, so the instances decide which timers fire. They may come from
        the cache: the commit finds out when one is stale.
        """
        metadata = {
            AggregateRef(timer.workflow, timer.id): Metadata(
                correlation_id=timer.correlation_id, causation_id=timer.event_id
            )
            for timer in due
        }
        if loading is Loading.CACHED:
            self._aggregates.preload((self._instances, ref.id) for ref in metadata)
        work = UnitOfWork(self._aggregates, loading=loading)
        instances = [work.find(self._instances, ref.id) for ref in metadata]
        for instance in instances:
            for name, at in list(instance.timers.items()):
                if at <= now:
                    instance.record(TimerFired(name))
        if any(instance.changes for instance in instances):
            work.commit(metadata=metadata)
        elif work.may_be_stale:
            return self._fire(due, now, Loading.CURRENT)
        return len(work.events)


class TimerStatus(msgspec.Struct, frozen=True):
    """How the thread of a workflow's timers is doing.

    At its last look, ``due`` was when the earliest timer is or was due, ``None`` without one, and
    ``late`` for how many seconds it had been due. ``fired`` is how many timers it has fired.
    """

    state: FollowerState
    due: datetime | None
    late: float
    fired: int
    failure: Failure | None = None


class TimerThread:
    """Owns the thread that fires the timers of one workflow.

    It sleeps until the earliest timer is due, at most ``poll`` seconds, and less when the bus
    announces an earlier one. After a failure it tries again with backoff; ``status`` tells.
    ``listing`` keeps the models that list the timers. All methods may be called by any thread.
    """

    def __init__(
        self,
        workflow: Workflow[Any],
        timers: Timers,
        bus: EventBus,
        listing: ProjectionRunner,
        *,
        poll: float = 1.0,
    ) -> None:
        self._name = workflow.name
        self._timers = timers
        self._listing = listing
        self._poll = poll
        self._bell = bus.subscribe(TimerSet.wire.name)
        self._failures = Failures(f"the timers of {workflow.name}", longest=5.0)
        self._look: Look | None = None
        self._fired = 0
        self._thread = BackgroundThread(
            f"timers-{workflow.name}", self._run, on_stop=self._bell.close
        )

    def status(self) -> TimerStatus:
        """How the thread is doing."""
        failure, look = self._failures.current, self._look
        state = FollowerState.FAILED if failure else FollowerState.RUNNING
        if not self._thread.alive:
            state = FollowerState.STOPPED
        due = look.due if look else None
        late = max(0.0, (look.now - due).total_seconds()) if look and due else 0.0
        return TimerStatus(state, due, late, self._fired, failure)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to stop, without waiting for it."""
        self._thread.stop()

    def close(self, timeout: float) -> bool:
        """Stop; wait at most ``timeout`` seconds, and return whether it ended. Idempotent."""
        return self._thread.close(timeout)

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set() and not self._bell.closed:
            began = time.monotonic()
            try:
                look = self._timers.fire()
            except Exception as error:  # noqa: BLE001 - the thread outlives it, `status` shows it
                stopping.wait(self._failures.add(error, cause=error))
                continue
            self._failures.end()
            self._look = look
            self._fired += look.fired
            position = look.position
            if not look.fired:
                position = self._sleep(began, look)
            if position is not None:
                # What has fired must not be found again, and what was set must be found.
                self._listing.wait_for(position, self._poll)

    def _sleep(self, began: float, look: Look) -> int | None:
        """Sleep until the next timer is due, or an earlier one that is set meanwhile.

        Returns the position of the last timer set meanwhile, else that of the look. A timer still
        listed although it fired does not shorten the sleep.
        """

        def when(due: datetime) -> float:
            return began + (due - look.now).total_seconds()

        until = began + self._poll
        if look.due is not None and look.position is None:
            until = min(until, when(look.due))
        position = look.position
        while (left := until - time.monotonic()) > 0 and not self._bell.closed:
            for event in self._bell.take(left):
                if isinstance(event.data, TimerSet) and event.aggregate.name == self._name:
                    until = min(until, when(event.data.due))
                    position = event.position
        return position
