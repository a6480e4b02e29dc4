"""What makes a follower of the log run: events that the bus announces, and requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from shop.eventsourcing.buses.bus import EventBus
from shop.eventsourcing.events.event import Event, EventData


class Announcements:
    """The events that a bus announces to one follower, and requests that it run at once.

    ``names`` are the wire names of the events that concern the follower. An announced event waits
    until ``pace`` seconds have gone by since the last run; a request does not. Any thread may call
    :meth:`request` and :meth:`close`; all else is for the follower's thread.

    Announced events that do not concern the follower cause no run. ``pass_over`` gets the positions
    of the first and the last of them, moves the follower to the last if it stands just before the
    first, and returns whether it did. No look into the store is needed for that: positions have no
    gaps, and events that this process stored are there.
    """

    def __init__(
        self,
        bus: EventBus,
        names: frozenset[str],
        pass_over: Callable[[int, int], bool],
        *,
        pace: float,
    ) -> None:
        self._names = names
        self._pass_over = pass_over
        self._pace = pace
        self._subscription = bus.subscribe()
        self._requested = threading.Event()
        self._announced = 0
        self._unverified = 0
        self._last_run = 0.0

    @property
    def requested(self) -> bool:
        """Whether a run was requested since the last one began."""
        return self._requested.is_set()

    @property
    def closed(self) -> bool:
        """Whether there will be no more announcements: it is closed, or the bus is."""
        return self._subscription.closed

    def request(self) -> None:
        """Request a run that looks into the store: the wait under way ends, or the next one."""
        self._requested.set()
        self._subscription.wake()

    def close(self) -> None:
        """End the wait under way and every later one; idempotent."""
        self._subscription.close()
        self._requested.set()

    def begin_run(self) -> int | None:
        """Begin a run. Returns the position up to which events were announced since the last run.

        ``None`` means that the store has to be asked where the log ends: a run was requested,
        nothing was announced, an announcement was lost, or one came from another process, which
        may be wrong or use another store.
        """
        self._last_run = time.monotonic()
        announced, self._announced = self._announced, 0
        verified = self._all_verified()
        self._unverified = self._count_unverified()
        if self._requested.is_set():
            self._requested.clear()
            return None
        return announced if announced and verified else None

    def wait_for_request(self, seconds: float) -> None:
        """Wait until a run is requested, at most ``seconds``. Announced events are dropped."""
        until = time.monotonic() + seconds
        while self._take(until) is not None:
            pass

    def wait_for_event(self, seconds: float) -> bool:
        """Wait until an event is announced that causes a run, at most ``seconds``.

        Returns whether one was announced. A request ends the wait as well.
        """
        until = time.monotonic() + seconds
        while (events := self._take(until)) is not None:
            if not events:
                continue
            self._requested.wait(self._last_run + self._pace - time.monotonic())
            self._last_run = time.monotonic()
            events += self._subscription.take(0)
            first, last = events[0].position, events[-1].position
            if not (self._irrelevant(events) and self._pass_over(first, last)):
                self._announced = last
                return True
        return False

    def _take(self, until: float) -> list[Event[EventData]] | None:
        """The next events that are announced; ``None`` when the wait for them is over."""
        left = until - time.monotonic()
        if self.requested or self.closed or left <= 0:
            return None
        return self._subscription.take(left)

    def _irrelevant(self, events: list[Event[EventData]]) -> bool:
        """Whether none of these events concerns the follower, and the log has no others between.

        ``False`` when that is not certain.
        """
        return (
            self._all_verified()
            and events[-1].position - events[0].position == len(events) - 1
            and not any(event.name in self._names for event in events)
        )

    def _all_verified(self) -> bool:
        """Whether this process stored all events announced since the last run, and none is lost."""
        return self._count_unverified() == self._unverified

    def _count_unverified(self) -> int:
        return self._subscription.remote + self._subscription.lost
