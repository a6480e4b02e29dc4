"""A store that leaves everything to another one: the base of those that add something to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit, Query, StoreInfo


class DelegatingStore(EventStore):
    """Wraps another store and is as thread-safe as that. Closing it closes the wrapped one."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        return self._store.append_each(commits)

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        return self._store.read(query)

    def head(self) -> int:
        return self._store.head()

    def now(self) -> datetime:
        return self._store.now()

    def find_commit(self, commit_id: UUID) -> Commit | None:
        return self._store.find_commit(commit_id)

    def commits(self, after: int = 0) -> Iterator[Commit]:
        return self._store.commits(after)

    def replicate(self, commits: Sequence[tuple[Commit, Sequence[Event[EventData]]]]) -> None:
        self._store.replicate(commits)

    def info(self) -> StoreInfo:
        return self._store.info()

    def close(self) -> None:
        self._store.close()
