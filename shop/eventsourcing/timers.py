"""Timers of workflows: found by the time at which they are due, and fired once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from shop.eventsourcing.bus import EventBus
from shop.eventsourcing.event import Event, EventData
from shop.eventsourcing.model import Filter, ModelReader, ModelStore
from shop.eventsourcing.repository import Aggregates
from shop.eventsourcing.retry import Backoff, ConflictRetry
from shop.eventsourcing.runner import Failure, ProjectionRunner, ProjectionState
from shop.eventsourcing.store import EventStore
from shop.eventsourcing.threads import BackgroundThread
from shop.eventsourcing.workflow import Workflow
from shop.eventsourcing.workflow_instance import TimerSet
from shop.eventsourcing.workflow_list import Timer, WorkflowList

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds for which conflicting writes are tried again."""


class Look(msgspec.Struct, frozen=True):
    """What a look at the timers found.

    ``position`` is that of the log once those that were due have fired, ``None`` where none was.
    ``wait`` is in how many seconds the next is due, ``None`` where no timer is set.
    """

    position: int | None = None
    fired: int = 0
    wait: float | None = None


class Timers:
    """Fires the timers of one workflow. Thread-safe, and not alone: other processes may do so too.

    That a timer fires once rests on the versions of the instances: who is too late finds that the
    timer is not set any more.
    """

    def __init__(
        self,
        workflow: Workflow[Any],
        events: EventStore,
        models: ModelStore,
        aggregates: Aggregates,
        *,
        batch: int = 200,
    ) -> None:
        self._instances = workflow.instances
        self._of_workflow = {"workflow": workflow.name}
        self._events = events
        self._reader = ModelReader(models, WorkflowList.name)
        self._aggregates = aggregates
        self._batch = batch

    def fire(self) -> Look:
        """Fire at most one batch of the timers that are due by the store's clock.

        Costs the same however many timers are set: only those that are due are looked at.
        """
        earliest = self._earliest(1)
        if not earliest:
            return Look()
        now = self._events.now()
        wait = (earliest[0].time - now).total_seconds()
        if wait > 0:
            return Look(wait=wait)
        due = [timer for timer in self._earliest(self._batch) if timer.time <= now]
        retry = ConflictRetry(timeout=_PATIENCE)
        for attempt in retry:
            with attempt:
                fired = self._fire(due, now, trust=retry.attempts == 1)
        return Look(position=self._events.head(), fired=fired)

    def _earliest(self, count: int) -> Sequence[Timer]:
        found = self._reader.find(Timer, Filter(equal=self._of_workflow, limit=count))
        return [keyed.model for keyed in found.value]

    def _fire(self, due: Sequence[Timer], now: datetime, *, trust: bool) -> int:
        """Have the instances of these timers record that they fired, in one commit.

        The read models may be behind: what counts is what the instances know. ``trust`` takes
        those as they were last seen, since the commit finds out where that is wrong.
        """
        work = self._aggregates.work(trust=trust)
        for id in {timer.id for timer in due}:
            work.find(self._instances, id).fire(now)
        work.commit()
        return len(work.events)


class TimerStatus(msgspec.Struct, frozen=True):
    """How the thread of a workflow's timers gets on.

    ``due`` is when the earliest timer was due when it looked last, ``None`` without one; ``fired``
    is how many timers it has fired.
    """

    state: ProjectionState
    due: datetime | None
    fired: int
    failure: Failure | None = None


class TimerThread:
    """Owns the thread that fires the timers of one workflow.

    It sleeps until the earliest one is due, at most ``poll`` seconds, and less when the bus tells
    of an earlier one. When the store cannot be reached it tries again with backoff. All methods may
    be called by any thread. ``listing`` keeps the models in which the timers are found.
    """

    def __init__(
        self,
        workflow: Workflow[Any],
        timers: Timers,
        events: EventStore,
        bus: EventBus,
        listing: ProjectionRunner,
        *,
        poll: float = 1.0,
    ) -> None:
        self._name = workflow.name
        self._timers = timers
        self._events = events
        self._listing = listing
        self._poll = poll
        self._bell = bus.subscribe(TimerSet.wire.name)
        self._backoff = Backoff(first=0.1, most=5.0)
        self._due: datetime | None = None
        self._fired = 0
        self._failure: Failure | None = None
        self._thread = BackgroundThread(
            f"timers-{workflow.name}", self._run, on_stop=self._bell.close
        )

    def status(self) -> TimerStatus:
        """How it gets on."""
        failure = self._failure
        if not self._thread.alive:
            state = ProjectionState.STOPPED
        else:
            state = ProjectionState.FAILED if failure else ProjectionState.RUNNING
        return TimerStatus(state, self._due, self._fired, failure)

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
            try:
                look = self._timers.fire()
            except Exception as error:  # noqa: BLE001 - the thread outlives it, `status` shows it
                self._fail(error)
                stopping.wait(self._backoff.next_delay())
                continue
            self._recover()
            self._fired += look.fired
            if look.position is not None:
                # Until the models know what has fired, they would only tell of it again.
                self._listing.wait_for(look.position, self._poll)
            if not look.fired:
                self._sleep(look.wait)

    def _sleep(self, wait: float | None) -> None:
        """Wait until the next timer is due in so many seconds, or one that was set meanwhile."""
        began = time.monotonic()
        until = began + min(self._poll, self._poll if wait is None else wait)
        while (left := until - time.monotonic()) > 0 and not self._bell.closed:
            for event in self._bell.take(left):
                until = min(until, began + self._seconds_to(event))
