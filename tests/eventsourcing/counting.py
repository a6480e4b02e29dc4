"""An event store that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator

from shop.eventsourcing import DelegatingStore, Event, EventData, EventStore, Query


class CountingStore(DelegatingStore):
    """Counts reads, and questions for the head; ``store`` may be exchanged for another."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.reads = 0
        self.heads = 0
        self._events_read = 0

    @property
    def store(self) -> EventStore:
        return self._store

    @store.setter
    def store(self, store: EventStore) -> None:
        self._store = store

    def events_read(self) -> int:
        """How many events were read since the last call."""
        count, self._events_read = self._events_read, 0
        return count

    def head(self) -> int:
        self.heads += 1
        return super().head()

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        self.reads += 1
        for event in super().read(query):
            self._events_read += 1
            yield event
