"""The event store on SQLite."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from msgspec import convert

from shop.backends.sqlite.append import (
    COMMITS,
    EMPTY_COMMITS,
    FIND_COMMIT,
    Append,
    append_all,
    append_at_once,
)
from shop.backends.sqlite.database import Database
from shop.backends.sqlite.query import HEAD, plan
from shop.eventsourcing.errors import (
    CommitInDoubtError,
    CommitReusedError,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.events.decoding import decode_rows
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.events.times import time_of
from shop.eventsourcing.stores.append import Kind, PreparedAppend, check_replicas, settle_each
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit, Query, StoreInfo

_id_of = partial(convert, type=UUID)  # a third of the time that UUID(bytes=…) takes


class SqliteEventStore(EventStore):
    """Events in a database file, which it closes with itself if it owns it."""

    def __init__(
        self, database: Database, registry: Registry[EventData], *, owns_database: bool = False
    ) -> None:
        self._database = database
        self._registry = registry
        self._owns_database = owns_database
        self._identity = UUID(bytes=database.read("SELECT identity FROM store")[0][0])
        self._known_kinds: frozenset[Kind] = frozenset()

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        return settle_each(commits, self._prepared, self._append)

    def _append(self, appends: Sequence[Append]) -> list[Commit | Exception]:
        outcomes = self._database.write_each(append_all, appends, at_once=append_at_once)
        for n, append in enumerate(appends):
            outcome = outcomes[n]
            if isinstance(outcome, StoreUnavailableError):
                outcomes[n] = self._found_out(append.prepared, outcome)
            elif append.new_kinds and isinstance(outcome, Commit) and not outcome.replayed:
                # Not of a replayed commit, which stored the kinds that it had the first time.
                self._known_kinds = self._known_kinds.union(append.new_kinds)
        return outcomes

    def _found_out(
        self, append: PreparedAppend, error: StoreUnavailableError
    ) -> Commit | Exception:
        """What became of an append: it may be in there when what failed was the commit's end."""
        try:
            known = self.find_commit(append.commit_id)
        except StoreError:
            doubt = CommitInDoubtError(
                f"{error}; whether commit {append.commit_id} is stored could not be found out"
            )
            doubt.__cause__ = error
            return doubt
        try:
            return error if known is None else append.replay(known)
        except CommitReusedError as reused:
            return reused

    def _prepared(self, commit: NewCommit) -> Append:
        return Append.of(PreparedAppend.of(self._registry, commit), self._known_kinds)

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        """The matching events. No lock or snapshot is held between two pages."""
        page = plan(query, self._database.read)
        while page is not None:
            rows = self._database.read(page.sql, page.parameters)
            yield from decode_rows(self._registry, rows, id_of=_id_of, time_of=time_of)
            page = page.next(rows)

    def head(self) -> int:
        return int(self._database.read(HEAD)[0][0])

    def now(self) -> datetime:
        return datetime.now(UTC)  # all processes that share a file share a machine

    def find_commit(self, commit_id: UUID) -> Commit | None:
        rows = self._database.read(FIND_COMMIT, (commit_id.bytes,) * 2)
        if not rows:
            return None
        first, last, digest = rows[0]
        return Commit(commit_id, first, last, digest, replayed=True)

    def commits(self, after: int = 0) -> Iterator[Commit]:
        """The commits in order. Those without events are read all at once."""
        empty = deque(self._database.read(EMPTY_COMMITS, (after,)))
        while rows := self._database.read(COMMITS, (after,)):
            for row in rows:
                while empty and empty[0][2] < row[2]:
                    yield _commit_of(empty.popleft())
                yield _commit_of(row)
            after = rows[-1][2]
        yield from map(_commit_of, empty)

    def replicate(self, commits: Sequence[tuple[Commit, Sequence[Event[EventData]]]]) -> None:
        """Store another store's commits, all in one transaction."""
        appends = [
            Append.of(PreparedAppend.of_replica(self._registry, commit, events), self._known_kinds)
            for commit, events in commits
        ]

        def write(connection: sqlite3.Connection) -> None:
            check_replicas([commit for commit, _ in commits], append_all(connection, appends))

        self._database.write(write)

    def info(self) -> StoreInfo:
        kinds = self._database.read("SELECT name, schema_version FROM event_kinds")
        return StoreInfo(self._identity, frozenset(kinds))

    def close(self) -> None:
        if self._owns_database:
            self._database.close()


def _commit_of(row: tuple[bytes, int, int, bytes]) -> Commit:
    id, first, last, digest = row
    return Commit(UUID(bytes=id), first, last, digest, replayed=True)
