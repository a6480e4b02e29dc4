"""The queue behind a subscription."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from shop.eventsourcing.events.event import Event, EventData


class EventQueue:
    """A bounded queue that a bus fills and one subscriber empties: a :class:`Subscription`.

    ``on_close`` is called when it is closed, at least once. Raises ``ValueError`` for a
    ``capacity`` below 1.
    """

    def __init__(self, capacity: int, on_close: Callable[[EventQueue], None]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, it is {capacity}")
        self._capacity = capacity
        self._on_close = on_close
        self._lock = threading.RLock()
        # Entered by its lock: Ctrl-C in the method by which a condition is entered would leave it
        # locked for ever.
        self._filled = threading.Condition(self._lock)
        self._queue: deque[Event[EventData]] = deque()
        self._woken = False
        self._closed = False
        self._lost = 0
        self._remote = 0
        self._remote_taken = 0

    @property
    def lost(self) -> int:
        """As :attr:`Subscription.lost`."""
        return self._lost

    @property
    def remote(self) -> int:
        """As :attr:`Subscription.remote`."""
        return self._remote_taken

    @property
    def closed(self) -> bool:
        """As :attr:`Subscription.closed`."""
        return self._closed

    @property
    def room(self) -> int:
        """How many more events find room."""
        return self._capacity - len(self._queue)

    def put(self, events: Sequence[Event[EventData]], *, remote: bool = False) -> None:
        """Queue what there is room for and count the rest as lost. Never waits."""
        with self._lock:
            if remote:
                self._remote += len(events)
            room = self.room
            self._queue.extend(events[:room])
            self._lost += max(0, len(events) - room)
            self._filled.notify()

    def take(self, timeout: float | None = None) -> list[Event[EventData]]:
        """As :meth:`Subscription.take`."""
        with self._lock:
            self._filled.wait_for(lambda: self._queue or self._woken or self._closed, timeout)
            self._woken = False
            self._remote_taken = self._remote
            taken = list(self._queue)
            self._queue.clear()
            return taken

    def wake(self) -> None:
        """As :meth:`Subscription.wake`."""
        with self._lock:
            self._woken = True
            self._filled.notify()

    def __iter__(self) -> Iterator[Event[EventData]]:
        while True:
            taken = self.take()
            yield from taken
            if not taken and self._closed:
                return

    def close(self) -> None:
        """As :meth:`Subscription.close`."""
        with self._lock:
            self._closed = True
            self._filled.notify_all()
        self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
