"""A store that leaves everything to another one: the base of those that add something to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Self
from uuid import UUID

from shop.eventsourcing.append import sole
from shop.eventsourcing.event import AggregateRef, Event, EventData
from shop.eventsourcing.store import Commit, EventStore, NewCommit, Query, StoreInfo


class DelegatingStore:
    """An :class:`EventStore` that wraps another and is as thread-safe as that. Closing it closes
    the wrapped one.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def append(
        self,
        events: Sequence[Event[EventData]],
        *,
        commit_id: UUID | None = None,
        digest: bytes | None = None,
        guards: Mapping[AggregateRef, int] | None = None,
    ) -> Commit:
        """As :meth:`EventStore.append`, by way of :meth:`append_each`."""
        return sole(self.append_each([NewCommit(events, commit_id, digest, guards)]))

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        """As :meth:`EventStore.append_each`."""
        return self._store.append_each(commits)

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        """As :meth:`EventStore.read`."""
        return self._store.read(query)

    def head(self) -> int:
        """As :meth:`EventStore.head`."""
        return self._store.head()

    def now(self) -> datetime:
        """As :meth:`EventStore.now`."""
        return self._store.now()

    def find_commit(self, commit_id: UUID) -> Commit | None:
        """As :meth:`EventStore.find_commit`."""
        return self._store.find_commit(commit_id)

    def commits(self, after: int = 0) -> Iterator[Commit]:
        """As :meth:`EventStore.commits`."""
        return self._store.commits(after)

    def replicate(self, commits: Sequence[tuple[Commit, Sequence[Event[EventData]]]]) -> None:
        """As :meth:`EventStore.replicate`."""
        self._store.replicate(commits)

    def info(self) -> StoreInfo:
        """As :meth:`EventStore.info`."""
        return self._store.info()

    def close(self) -> None:
        """As :meth:`EventStore.close`."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
