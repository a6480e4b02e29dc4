"""The in-memory event store."""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from uuid import UUID, uuid4

import msgspec

from shop.eventsourcing.errors import EventIdReusedError, EventSourcingError, StoreClosedError
from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.stores.append import PreparedAppend, check_replicas, decide, settle_each
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit, Query, StoreInfo


class MemoryEventStore(EventStore):
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

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        prepare = partial(PreparedAppend.of, self._registry)
        return settle_each(commits, prepare, self._append_all)

    def _append_all(self, appends: Sequence[PreparedAppend]) -> list[Commit | Exception]:
        outcomes: list[Commit | Exception] = []
        for append in appends:
            try:
                with self._lock:
                    self._check_open()
                    outcomes.append(self._append(append))
            except EventSourcingError as error:
                outcomes.append(error)
        return outcomes

    def _append(self, append: PreparedAppend) -> Commit:
        """What an append has left to do, with the lock held."""
        known = self._commits.get(append.commit_id)
        if known is not None:
            return append.replay(known)
        append.check(self._versions(append))
        for event in append.events:
            if event.id in self._positions_by_id:
                raise EventIdReusedError(event.id)
        first = len(self._events) + 1
        # Not the caller's objects: what is kept is what other stores would keep, its JSON.
        stored = [
            msgspec.structs.replace(
                event,
                data=self._registry.decode(event.name, event.data.wire.version, payload),
                position=position,
            )
            for position, (event, payload) in enumerate(
                zip(append.events, append.payloads, strict=True), first
            )
        ]
        commit = Commit(append.commit_id, first, first + len(stored) - 1, append.digest)
        try:
            for event in stored:
                self._positions_by_id[event.id] = event.position
                self._positions_by_ref[event.aggregate].append(event.position)
                self._positions_by_name[event.name].append(event.position)
                self._kinds.add((event.name, event.data.wire.version))
            self._events += stored
            self._commits[commit.id] = commit
        except BaseException:  # such as Ctrl-C: a commit is stored whole or not at all
            self._take_back(commit, stored)
            raise
        return commit

    def _take_back(self, commit: Commit, stored: Sequence[Event[EventData]]) -> None:
        """Undo as much of the last commit as has been done."""
        self._commits.pop(commit.id, None)
        del self._events[commit.first - 1 :]
        for event in stored:
            self._positions_by_id.pop(event.id, None)
            for positions in (
                self._positions_by_ref[event.aggregate],
                self._positions_by_name[event.name],
            ):
                while positions and positions[-1] >= commit.first:
                    positions.pop()

    def _versions(self, append: PreparedAppend) -> dict[AggregateRef, int]:
        return {ref: len(self._positions_by_ref.get(ref, ())) for ref in append.expected}

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        """The matching events, as they are at the time of the call."""
        with self._lock:
            self._check_open()
            runs = [self._within(query, positions) for positions in self._candidates(query)]
        positions = heapq.merge(*runs, reverse=query.reverse)
        matching = (self._events[p - 1] for p in positions)
        return islice((event for event in matching if query.matches(event)), query.limit)

    def _candidates(self, query: Query) -> Iterable[Sequence[int]]:
        """Lists of ascending positions, without a common one, among which all matches are."""
        if query.ids is not None:
            known = (self._positions_by_id.get(id) for id in set(query.ids))
            return [[position] for position in known if position is not None]
        if query.refs is not None:
            return [self._positions_by_ref.get(ref, []) for ref in set(query.refs)]
        if query.names is not None:
            return [self._positions_by_name.get(name, []) for name in set(query.names)]
        return [range(1, len(self._events) + 1)]

    def _within(self, query: Query, positions: Sequence[int]) -> Iterator[int]:
        """Those positions within the bounds asked for, in the order asked for.

        Looked up one by one: nothing is copied, and a list only grows.
        """
        first = bisect_right(positions, query.after)
        end = len(positions) if query.to is None else bisect_right(positions, query.to)
        if query.refs is not None and query.ids is None:  # one stream: the nth has version n
            low, high = query.versions
            first = max(first, (low or 1) - 1)
            end = end if high is None else min(end, high)
        indexes = range(first, end)
        return (positions[i] for i in (reversed(indexes) if query.reverse else indexes))

    def head(self) -> int:
        with self._lock:
            self._check_open()
            return len(self._events)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def find_commit(self, commit_id: UUID) -> Commit | None:
        with self._lock:
            self._check_open()
            known = self._commits.get(commit_id)
        return known and msgspec.structs.replace(known, replayed=True)

    def commits(self, after: int = 0) -> Iterator[Commit]:
        """The commits in order, as they are at the time of the call."""
        with self._lock:
            self._check_open()
            known = list(self._commits.values())
        return (
            msgspec.structs.replace(commit, replayed=True)
            for commit in known
            if commit.first > after
        )

    def replicate(self, commits: Sequence[tuple[Commit, Sequence[Event[EventData]]]]) -> None:
        with self._lock:
            self._check_open()
            for commit, events in commits:
                append = PreparedAppend.of_replica(self._registry, commit, events)
                known = self._commits.get(commit.id)
                outcomes = decide(
                    [append],
                    len(self._events),
                    self._versions(append),
                    {} if known is None else {known.id: known},
                )
                check_replicas([commit], outcomes)
                if known is None:
                    self._append(append)

    def info(self) -> StoreInfo:
        with self._lock:
            self._check_open()
            return StoreInfo(self._identity, frozenset(self._kinds))

    def close(self) -> None:
        """Refuse all further use; idempotent."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the event store is closed")
