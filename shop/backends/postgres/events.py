"""The event store on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg

from shop.backends.postgres.append import (
    Append,
    append_all,
    find_commits,
    replicate_all,
)
from shop.backends.postgres.connections import Row
from shop.backends.postgres.database import Database
from shop.backends.postgres.query import plan
from shop.eventsourcing.errors import (
    CommitInDoubtError,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.events.decoding import decode_rows
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.stores.append import (
    CLOSE_SECONDS,
    PreparedAppend,
    settle_each,
    until_certain,
)
from shop.eventsourcing.stores.group_commit import Entry, GroupCommit
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit, Query, StoreInfo

T = TypeVar("T")

_LEAST_ID = UUID(int=0)
_COMMITS = """
    (SELECT commit_id, position - commit_size + 1, position, digest, 0 AS empty
    FROM {events} WHERE commit_id IS NOT NULL
        AND position > %(last)s AND position - commit_size >= %(after)s
    ORDER BY position LIMIT 1000)
    UNION ALL
    (SELECT id, head + 1, head, digest, 1 FROM {empty_commits}
    WHERE (head, id) {beyond} (%(last)s, %(id)s::uuid) ORDER BY head, id LIMIT 1000)
    ORDER BY 3, 5, 1 LIMIT 1000
"""
"""The next commits after one of either kind, those without events after the others.

``beyond`` is ``>`` after one without events, and else ``>=`` with the least id that there may be.
"""


class PostgresEventStore(EventStore):
    """Events in a database, which it closes with itself if it owns it."""

    def __init__(
        self, database: Database, registry: Registry[EventData], *, owns_database: bool = False
    ) -> None:
        self._database = database
        self._names = database.names
        self._registry = registry
        self._owns_database = owns_database
        self._group = GroupCommit(self._commit)
        database.before_close.callback(self._group.close, CLOSE_SECONDS)

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        """Do the appends, each with its own outcome.

        A connection that is lost in the middle is no error, as long as the server can be reached
        again within the database's time-out.
        """
        return settle_each(commits, self._prepared, self._append)

    def _append(self, appends: Sequence[Append]) -> list[Commit | Exception]:
        return until_certain(self._group.submit_each, appends, timeout=self._database.timeout)

    def _prepared(self, commit: NewCommit) -> Append:
        return Append.of(PreparedAppend.of(self._registry, commit))

    def _commit(self, group: Sequence[Entry[Append]]) -> None:
        """Commit a group together, or each alone where the server cannot take one of them.

        What is known of some stays so, whatever keeps the others from being done.
        """
        left = dict(enumerate(group))
        try:
            for n, outcome in self._append_all([entry.work for entry in group]):
                left.pop(n).outcome = outcome
        except StoreError as error:
            for entry in left.values():
                if isinstance(error, StoreUnavailableError) or len(group) == 1:
                    entry.outcome = error
                else:
                    self._commit([entry])

    def _append_all(self, appends: Sequence[Append]) -> Iterator[tuple[int, Commit | Exception]]:
        with self._database.connection() as connection:
            try:
                yield from append_all(connection, self._names, appends)
            except psycopg.Error as error:
                if connection.closed:
                    raise CommitInDoubtError(str(self._database.translation(error))) from error
                raise

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        """The matching events. No connection or snapshot is held between two pages."""
        page = plan(query, self._names, self._read)
        while page is not None:
            rows = self._read(page.sql, page.parameters)
            yield from decode_rows(self._registry, rows, id_of=_as_it_is, time_of=_as_it_is)
            page = page.next(rows)

    def _read(self, sql: str, parameters: Mapping[str, object]) -> list[Row]:
        return self._database.read(sql, parameters)

    def head(self) -> int:
        return int(self._read(self._names.head, {})[0][0])

    def now(self) -> datetime:
        """The time by the server's clock."""
        now: datetime = self._read("SELECT clock_timestamp()", {})[0][0]
        return now

    def find_commit(self, commit_id: UUID) -> Commit | None:
        with self._database.connection() as connection:
            known = find_commits(connection, self._names, [commit_id]).get(commit_id)
        return known and msgspec.structs.replace(known, replayed=True)

    def commits(self, after: int = 0) -> Iterator[Commit]:
        tables = {
            "events": self._names.events,
            "empty_commits": self._names.table("empty_commits"),
        }
        key, beyond = {"after": after, "last": after, "id": _LEAST_ID}, ">="
        while rows := self._read(_COMMITS.format(**tables, beyond=beyond), key):
            for id, first, last, digest, _ in rows:
                yield Commit(id, first, last, digest, replayed=True)
            id, _, last, _, empty = rows[-1]
            key |= {"last": last, "id": id if empty else _LEAST_ID}
            beyond = ">" if empty else ">="

    def replicate(self, commits: Sequence[tuple[Commit, Sequence[Event[EventData]]]]) -> None:
        """Store another store's commits, all in one transaction."""
        if not commits:
            return
        appends = [
            Append.of(PreparedAppend.of_replica(self._registry, commit, events))
            for commit, events in commits
        ]
        with self._database.connection() as connection:
            replicate_all(connection, self._names, appends, [commit for commit, _ in commits])

    def info(self) -> StoreInfo:
        kinds = self._names.table("event_kinds")
        rows = self._read(
            f"SELECT identity, name, schema_version FROM {self._names.store}"
            f" LEFT JOIN {kinds} ON true",
            {},
        )
        return StoreInfo(rows[0][0], frozenset((n, v) for _, n, v in rows if n is not None))

    def close(self) -> None:
        if self._owns_database:
            self._database.close()


def _as_it_is(value: T) -> T:
    return value
