"""The thread-safe in-memory bus."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from shop.eventsourcing.event import Event, EventData


class MemorySubscription:
    """A bounded queue that one publisher side fills and one subscriber empties."""

    def __init__(self, capacity: int, on_close: Callable[[MemorySubscription], None]) -> None:
        self._capacity = capacity
        self._on_close = on_close
        self._filled = threading.Condition()
        self._queue: deque[Event[EventData]] = deque()
        self._woken = False
        self._closed = False
        self._lost = 0

    @property
    def lost(self) -> int:
        """As :attr:`Subscription.lost`."""
        return self._lost

    @property
    def closed(self) -> bool:
        """As :attr:`Subscription.closed`."""
        return self._closed

    def put(self, events: Sequence[Event[EventData]]) -> None:
        """Queue what there is room for and count the rest as lost. Never waits."""
        with self._filled:
            room = self._capacity - len(self._queue)
            self._queue.extend(events[:room])
            self._lost += max(0, len(events) - room)
            self._filled.notify()

    def take(self, timeout: float | None = None) -> list[Event[EventData]]:
        """As :meth:`Subscription.take`."""
        with self._filled:
            self._filled.wait_for(lambda: self._queue or self._woken or self._closed, timeout)
            self._woken = False
            taken = list(self._queue)
            self._queue.clear()
            return taken

    def wake(self) -> None:
        """As :meth:`Subscription.wake`."""
        with self._filled:
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
        with self._filled:
            self._closed = True
            self._filled.notify_all()
        self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class MemoryEventBus:
    """Hands events to the subscribers of this process, in the publishing thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced, never changed, so that publishing needs no lock.
        self._subscribers: tuple[tuple[MemorySubscription, frozenset[str]], ...] = ()
        self._closed = False

    def publish(self, events: Sequence[Event[EventData]]) -> None:
        """As :meth:`EventBus.publish`."""
        for subscription, names in self._subscribers:
            wanted = [event for event in events if event.name in names] if names else events
            if wanted:
                subscription.put(wanted)

    def subscribe(self, *names: str, capacity: int = 1024) -> MemorySubscription:
        """As :meth:`EventBus.subscribe`."""
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, it is {capacity}")
        subscription = MemorySubscription(capacity, self._remove)
        with self._lock:
            if not self._closed:
                self._subscribers += ((subscription, frozenset(names)),)
        if self._closed:
            subscription.close()
        return subscription

    def close(self) -> None:
        """As :meth:`EventBus.close`."""
        with self._lock:
            self._closed = True
            subscribers = self._subscribers
        for subscription, _ in subscribers:
            subscription.close()

    def _remove(self, subscription: MemorySubscription) -> None:
        with self._lock:
            self._subscribers = tuple(s for s in self._subscribers if s[0] is not subscription)
