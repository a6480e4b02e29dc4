"""An event store that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Self
from uuid import UUID

from shop.eventsourcing import AggregateRef, Commit, Event, EventData, EventStore, Query, StoreInfo


class CountingStore:
    """Counts reads; ``store`` may be exchanged for another."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.reads = 0
        self._events_read = 0

    def events_read(self) -> int:
        """How many events were read since the last call."""
        count, self._events_read = self._events_read, 0
        return count

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        self.reads += 1
        for event in self.store.read(query):
            self._events_read += 1
            yield event

    def append(
        self,
        events: Sequence[Event[EventData]],
        *,
        commit_id: UUID | None = None,
        digest: bytes | None = None,
        guards: Mapping[AggregateRef, int] | None = None,
    ) -> Commit:
        return self.store.append(events, commit_id=commit_id, digest=digest, guards=guards)

    def head(self) -> int:
        return self.store.head()

    def find_commit(self, commit_id: UUID) -> Commit | None:
        return self.store.find_commit(commit_id)

    def info(self) -> StoreInfo:
        return self.store.info()

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
