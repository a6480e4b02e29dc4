"""The newest events of the log, kept in memory for the threads that follow it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice

from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.stores.store import Query


class Tail:
    """A run of stored events without a gap, at most twice ``capacity`` of them. Thread-safe.

    All followers of the log ask for the same few newest events, which this process has just
    appended. (Axon's embedded event store keeps them for the same reason.)
    """

    def __init__(self, capacity: int = 250) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._events: list[Event[EventData]] = []

    def extend(self, events: Sequence[Event[EventData]]) -> None:
        """Add stored events, which follow one another. After a gap, the run begins anew."""
        with self._lock:
            if self._events and events[0].position != self._events[-1].position + 1:
                self._events.clear()
            self._events += events
            if len(self._events) > 2 * self._capacity:
                del self._events[: -self._capacity]

    def find(self, query: Query) -> list[Event[EventData]] | None:
        """The events of a query, or ``None`` where others than those kept here may match."""
        with self._lock:
            if not self._events or query.to is None:
                return None
            first = self._events[0].position
            if query.after < first - 1 or query.to > self._events[-1].position:
                return None
            asked = self._events[query.after + 1 - first : query.to + 1 - first]
        if query.reverse:
            asked.reverse()
        return list(islice(filter(query.matches, asked), query.limit))
