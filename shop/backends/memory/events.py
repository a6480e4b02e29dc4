"""The in-memory event store."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Self
from uuid import UUID, uuid4

import msgspec

from shop.eventsourcing.errors import EventIdReusedError, StoreClosedError
from shop.eventsourcing.event import AggregateRef, Event, EventData
from shop.eventsourcing.registry import Registry
from shop.eventsourcing.store import Commit, PreparedAppend, Query, StoreInfo


class MemoryEventStore:
    """A list of events, with the positions of each aggregate, event name and id beside it."""

    def __init__(self, registry: Registry[EventData]) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._identity = uuid4()
        self._events: list[Event[EventData]] = []
        self._commits: dict[UUID, Commit] = {}
        self._positions_by_id: dict[UUID, int] = {}
        self._positions_by_ref: defaultdict[AggregateRef, list[int]] = defaultdict(list)
        self._positions_by_name: defaultdict[str, list[int]] = defaultdict(list)
        self._kinds: set[tuple[str, int]] = set()
        self._closed = False

    def append(
        self,
        events: Sequence[Event[EventData]],
        *,
        commit_id: UUID | None = None,
        digest: bytes | None = None,
        guards: Mapping[AggregateRef, int] | None = None,
    ) -> Commit:
        """As :meth:`EventStore.append`, until the process ends."""
        append = PreparedAppend.of(self._registry, events, commit_id, digest, guards)
        with self._lock:
            self._check_open()
            known = self._commits.get(append.commit_id)
            if known is not None:
                return append.replay(known)
            append.check({ref: len(self._positions_by_ref.get(ref, ())) for ref in append.expected})
            for event in events:
                if event.id in self._positions_by_id:
                    raise EventIdReusedError(event.id)
            first = len(self._events) + 1
            for position, event in enumerate(events, first):
                self._events.append(event.at(position))
                self._positions_by_id[event.id] = position
                self._positions_by_ref[event.aggregate].append(position)
                self._positions_by_name[event.name].append(position)
                self._kinds.add((event.name, event.data.wire.version))
            commit = Commit(append.commit_id, first, len(self._events), append.digest)
            self._commits[commit.id] = commit
            return commit

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        """As :meth:`EventStore.read`. The events are those of the time of the call."""
        with self._lock:
            self._check_open()
            positions = self._candidates(query)
        return self._matching(query, positions)

    def _candidates(self, query: Query) -> Sequence[int]:
        """The positions among which all matches are, in ascending order."""
        if query.ids is not None:
            known = (self._positions_by_id.get(id) for id in set(query.ids))
            return sorted(position for position in known if position is not None)
        if query.refs is not None:
            low, high = query.versions
            lists = [
                self._positions_by_ref.get(ref, [])[max(0, (low or 1) - 1) : high]
                for ref in set(query.refs)
            ]
        elif query.names is not None:
            lists = [self._positions_by_name.get(name, []) for name in set(query.names)]
        else:
            head = len(self._events)
            return range(query.after + 1, 1 + (head if query.to is None else min(query.to, head)))
        found = [p for some in lists for p in some[bisect_right(some, query.after) :]]
        return found if len(lists) == 1 else sorted(found)

    def _matching(self, query: Query, positions: Sequence[int]) -> Iterator[Event[EventData]]:
        left = len(positions) if query.limit is None else query.limit
        for position in reversed(positions) if query.reverse else positions:
            if left <= 0:
                return
            event = self._events[position - 1]
            if query.matches(event):
                left -= 1
                yield event

    def head(self) -> int:
        """As :meth:`EventStore.head`."""
        with self._lock:
            self._check_open()
            return len(self._events)

    def find_commit(self, commit_id: UUID) -> Commit | None:
        """As :meth:`EventStore.find_commit`."""
        with self._lock:
            self._check_open()
            known = self._commits.get(commit_id)
        return known and msgspec.structs.replace(known, replayed=True)

    def info(self) -> StoreInfo:
        """As :meth:`EventStore.info`."""
        with self._lock:
            self._check_open()
            return StoreInfo(self._identity, frozenset(self._kinds))

    def close(self) -> None:
        """As :meth:`EventStore.close`; the events are gone."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the event store is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
