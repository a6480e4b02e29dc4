"""Following the log: one thread for each projection, and for the reactions of each workflow."""

from __future__ import annotations

import logging
import threading
import time
from enum import StrEnum

import msgspec

from shop.eventsourcing.buses.bus import EventBus
from shop.eventsourcing.errors import CheckpointMovedError, ProjectionError
from shop.eventsourcing.following.announcements import Announcements
from shop.eventsourcing.following.failures import Failure, Failures
from shop.eventsourcing.following.follower import (
    Follower,
    FollowerError,
    Progress,
    claim_generation,
    write_checkpoint,
)
from shop.eventsourcing.models.model_store import Checkpoint, ModelStore
from shop.eventsourcing.stores.store import EventStore
from shop.eventsourcing.threads import BackgroundThread

logger = logging.getLogger(__name__)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a follower of the log runs. Times are in seconds.

    Continuously by default: whenever the bus announces an event, and every ``poll`` seconds in
    case an announcement was lost. ``pace`` is the least time from one run to the next: an event
    after a quiet time is handled at once, and events in quick succession are handled together.
    ``wait_for`` ignores ``pace``. ``debounce`` waits until no event has come for that long, at most
    ten times that long. ``every`` makes it run periodically instead, whatever the bus announces.
    """

    poll: float = 1.0
    pace: float = 0.02
    debounce: float = 0.0
    every: float | None = None


class FollowerState(StrEnum):
    """What the thread of a projection, or of a workflow, is doing."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    STOPPED = "stopped"
    ELSEWHERE = "elsewhere"


class FollowerStatus(msgspec.Struct, frozen=True):
    """How a projection, or a workflow, is doing.

    ``current`` means that it has caught up at least once since its start.
    """

    name: str
    state: FollowerState
    position: int
    current: bool
    failure: Failure | None = None


class LogRunner:
    """Owns the thread of one follower of the log.

    The thread catches up with the log and then follows it. When that fails on an event, it stops
    before it, skips nothing, and tries again with backoff; ``status`` and the log tell. It ends
    with ``close``, and when the bus is closed. All methods may be called by any thread.
    ``kind`` says in messages what the follower is.
    """

    def __init__(
        self,
        follower: Follower,
        events: EventStore,
        models: ModelStore,
        bus: EventBus,
        *,
        kind: str,
        schedule: Schedule = Schedule(),
    ) -> None:
        self._follower = follower
        self._kind = kind
        self._events = events
        self._models = models
        self._schedule = schedule
        self._progress: Progress | None = None
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # entered by its lock, as in EventQueue
        self._position = 0
        self._current = False
        self._paused = False
        self._waits_ended = False
        self._failures = Failures(f"{kind} {follower.name}", longest=30.0)
        self._announcements = Announcements(
            bus, follower.event_names, self._pass_over, pace=schedule.pace
        )
        self._thread = BackgroundThread(
            f"{kind}-{follower.name}", self._run, on_stop=self._announcements.close
        )

    @property
    def name(self) -> str:
        """The follower's name."""
        return self._follower.name

    @property
    def position(self) -> int:
        """The position that was reached. Read it before the models, not after."""
        return self._position

    @property
    def committed(self) -> int:
        """The position of the checkpoint that this thread wrote or found last.

        Models at an earlier position have been begun anew by another program.
        """
        progress = self._progress
        return progress.committed.position if progress else 0

    def status(self) -> FollowerStatus:
        """How the follower is doing."""
        with self._lock:
            failure = self._failures.current
            if not self._thread.alive:
                state = FollowerState.STOPPED
            elif self._paused:
                state = FollowerState.PAUSED
            elif failure is not None:
                state = FollowerState.FAILED
            else:
                state = FollowerState.RUNNING if self._current else FollowerState.STARTING
            return FollowerStatus(self.name, state, self._position, self._current, failure)

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Stop at the end of the batch under way; wait at most ``timeout`` seconds. Idempotent.

        Returns whether the thread ended.
        """
        return self._thread.close(timeout)

    def stop(self) -> None:
        """Ask the thread to stop, without waiting for it."""
        self._thread.stop()

    def pause(self) -> None:
        """Stand still until :meth:`resume`; a batch under way is finished."""
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        """Go on after a pause; after a failure, try again at once."""
        with self._lock:
            self._paused = False
        self._announcements.request()

    def wait_for(self, position: int, timeout: float) -> bool:
        """Wait until a position is reached, at most ``timeout`` seconds.

        Returns whether it was.
        """
        if self._position >= position:
            return True
        if self._failures.current is None:  # else the backoff decides when it runs again
            self._announcements.request()
        with self._lock:
            self._changed.wait_for(lambda: self._waits_ended or self._position >= position, timeout)
            return self._position >= position

    def end_waits(self) -> None:
        """End every :meth:`wait_for` that is under way, and let none wait any more."""
        with self._lock:
            self._waits_ended = True
            self._changed.notify_all()

    def _run(self, stopping: threading.Event) -> None:
        waited_in_vain = False
        while not stopping.is_set() and not self._announcements.closed:
            announced = self._announcements.begin_run()
            try:
                if not self._paused:
                    self._catch_up(stopping, announced, refresh=waited_in_vain)
                    self._failures.end()
            except CheckpointMovedError:
                self._progress = None
                continue
            except Exception as error:  # noqa: BLE001 - the thread outlives it, `status` shows it
                self._announcements.wait_for_request(self._fail(error))
                continue
            waited_in_vain = not self._await_event()

    def _catch_up(self, stopping: threading.Event, announced: int | None, *, refresh: bool) -> None:
        """Advance to the position that was announced, or to the end of the log.

        ``refresh`` also looks whether the stored checkpoint was moved by somebody else, and writes
        one for events that were passed over.
        """
        head = self._events.head() if announced is None else announced
        progress = self._progress
        if progress is None or (refresh and self._moved(progress)):
            progress = self._begin()
        elif refresh and progress.position > progress.committed.position:
            progress = write_checkpoint(self._models, progress)
        while True:
            self._note(progress)
            if progress.position >= head or self._paused or stopping.is_set():
                break
            try:
                progress = self._follower.advance(progress, head)
            except FollowerError as error:
                self._note(error.progress)
                if self._moved(error.progress):
                    # The handler met models that somebody else had moved on or replaced.
                    raise CheckpointMovedError(self.name) from error
                raise
        self._current = self._current or progress.position >= head

    def _begin(self) -> Progress:
        """Where to go on: at the stored checkpoint, or at the beginning if that does not apply."""
        name, shape = self.name, self._follower.shape
        identity = self._events.info().identity
        self._models.prepare(self._follower.collections)
        stored = self._models.checkpoint(name)
        head = self._events.head()  # read afterwards: others may append and project meanwhile
        if stored is None:
            begun = Checkpoint(name, 1, 0, shape, identity)
            self._models.commit(None, begun)
            return Progress(begun, 0)
        reasons = [
            reason
            for reason, applies in (
                ("its code has changed", stored.shape != shape),
                ("it belongs to another event store", stored.store != identity),
                (f"it is ahead of the event store, at {stored.position}", stored.position > head),
            )
            if applies
        ]
        if not reasons:
            return Progress(stored, stored.position)
        if self._current:
            self._disown()
            # This process ran it a moment ago: to take it back would be a tug of war.
            raise ProjectionError(f"{name} was taken over by another program: {reasons[0]}")
        logger.warning("%s %s begins anew: %s", self._kind, name, "; ".join(reasons))
        claimed = claim_generation(self._follower, self._models, identity)
        begun = msgspec.structs.replace(claimed, projection=name)
        self._models.commit(stored, begun)
        self._models.discard([c.name for c in self._follower.collections], stored.generation)
        return Progress(begun, 0)

    def _moved(self, progress: Progress) -> bool:
        return self._models.checkpoint(self.name) != progress.committed

    def _disown(self) -> None:
        """Forget the position: the models that are read now were made by another program."""
        self._progress = None
        with self._lock:
            self._position = 0

    def _note(self, progress: Progress) -> None:
        self._progress = progress
        with self._lock:
            self._position = progress.position
            self._changed.notify_all()

    def _pass_over(self, first: int, last: int) -> bool:
        """Move from just before the first of these positions to the last; whether it did."""
        progress = self._progress
        if progress is None or self._paused or progress.position != first - 1:
            return False
        self._note(Progress(progress.committed, last))
        return True

    def _fail(self, error: Exception) -> float:
        """Record a failure; returns the seconds to wait before the next try."""
        event = error.event if isinstance(error, FollowerError) else None
        cause = error.__cause__ if isinstance(error, FollowerError) else None
        return self._failures.add(error, cause=cause or error, event=event)

    def _await_event(self) -> bool:
        """Wait as the schedule says. False when the poll interval went by without an event."""
        schedule, announcements = self._schedule, self._announcements
        if schedule.every is not None:
            announcements.wait_for_request(schedule.every)
            return False
        if not announcements.wait_for_event(schedule.poll):
            return announcements.requested
        if schedule.debounce:
            latest = time.monotonic() + 10 * schedule.debounce
            while time.monotonic() < latest and announcements.wait_for_event(schedule.debounce):
                pass
        return True
