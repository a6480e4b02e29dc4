"""Appending to the log: several appends in one transaction, in as few statements as possible."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from shop.backends.sqlite.query import HEAD
from shop.eventsourcing.errors import EventIdReusedError
from shop.eventsourcing.events.event import AggregateRef
from shop.eventsourcing.events.times import microseconds
from shop.eventsourcing.stores.append import Kind, PreparedAppend, decide
from shop.eventsourcing.stores.store import Commit

_ROWS_AT_ONCE = 400
"""Rows of one INSERT. SQLite allows a statement some 30,000 parameters."""
_VERSION = "SELECT coalesce(max(version), 0) FROM events WHERE aggregate_id = ? AND aggregate = ?"
FIND_COMMIT = (
    "SELECT position - commit_size + 1, position, digest FROM events WHERE commit_id = ?"
    " UNION ALL SELECT head + 1, head, digest FROM empty_commits WHERE id = ?"
)
"""First and last position and digest of a commit; its id is the parameter, twice."""
COMMITS = (
    "SELECT commit_id, position - commit_size + 1, position, digest FROM events"
    " WHERE position > ?1 AND position - commit_size >= ?1 AND commit_id IS NOT NULL"
    " ORDER BY position LIMIT 1000"
)
"""Id, first and last position and digest of the next commits that begin after a position."""
EMPTY_COMMITS = "SELECT id, head + 1, head, digest FROM empty_commits WHERE head >= ? ORDER BY head"
"""The same of those without events."""


Row = tuple[Any, ...]


class Append(msgspec.Struct, frozen=True):
    """An append, with the columns of its events (all but the position)."""

    prepared: PreparedAppend
    rows: Sequence[Row]
    new_kinds: Collection[Kind]

    @classmethod
    def of(cls, prepared: PreparedAppend, known_kinds: Collection[Kind]) -> Append:
        """Work out the columns, which needs no database."""
        commit = (prepared.commit_id.bytes, len(prepared.events), prepared.digest)
        rows: list[Row] = [
            (
                event.id.bytes,
                event.name,
                event.data.wire.version,
                microseconds(event.time),
                event.aggregate.name,
                event.aggregate.id.bytes,
                event.version,
                data.decode(),
                msgspec.json.encode(event.metadata).decode(),
                None,
                None,
                None,
            )
            for event, data in zip(prepared.events, prepared.payloads, strict=True)
        ]
        if rows:
            rows[-1] = rows[-1][:-3] + commit
        return cls(prepared, rows, prepared.kinds.difference(known_kinds))


def append_all(
    connection: sqlite3.Connection, appends: Sequence[Append]
) -> Sequence[Commit | Exception]:
    """Do the appends one after the other, each with its own outcome. Within a transaction."""
    return append_at_once(connection, appends) or _append_carefully(connection, appends)


def append_at_once(
    connection: sqlite3.Connection, appends: Sequence[Append]
) -> Sequence[Commit | Exception]:
    """Do all the appends in one statement, and leave it to the schema to refuse what it must.

    No outcomes when something was refused, or when the appends are not as simple as most are;
    nothing is written then.
    """
    rows = [row for append in appends for row in append.rows]
    guards = {guard for append in appends for guard in append.prepared.guarded.items()}
    if (
        not 0 < len(rows) <= _ROWS_AT_ONCE
        or len(guards) > _ROWS_AT_ONCE
        or any(append.new_kinds or not append.rows for append in appends)
    ):
        return ()
    if guards:
        # They are looked at once, before the first row: none may be of what another row changes.
        written = {ref for append in appends for ref in append.prepared.written}
        if any(ref in written for ref, _ in guards):
            return ()
    parameters = [value for row in rows for value in row]
    for ref, version in guards:
        parameters += (ref.id.bytes, ref.name, version)
    try:
        cursor = connection.execute(_insertion(len(rows), len(guards)), parameters)
    except sqlite3.IntegrityError:
        return ()
    if cursor.rowcount != len(rows) or cursor.lastrowid is None:
        return ()
    last = cursor.lastrowid - len(rows)
    commits = []
    for append in appends:
        first, last = last + 1, last + len(append.rows)
        commits.append(Commit(append.prepared.commit_id, first, last, append.prepared.digest))
    return commits


def _append_carefully(
    connection: sqlite3.Connection, appends: Sequence[Append]
) -> Sequence[Commit | Exception]:
    """Look first, then insert what is in order.

    The write lock is held, so what is found out at the beginning stays true but for what these
    appends change themselves.
    """
    prepared = [append.prepared for append in appends]
    head, versions, commits = _look(connection, prepared)
    outcomes = decide(prepared, head, versions, commits)
    accepted = [
        (append, outcome)
        for append, outcome in zip(appends, outcomes, strict=True)
        if isinstance(outcome, Commit) and not outcome.replayed
    ]
    _insert_events(connection, [row for append, _ in accepted for row in append.rows], head)
    connection.executemany(
        "INSERT INTO empty_commits VALUES (?, ?, ?)",
        [
            (commit.id.bytes, commit.last, commit.digest)
            for _, commit in accepted
            if not commit.size
        ],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO event_kinds VALUES (?, ?, ?)",
        {kind for append, _ in accepted for kind in append.new_kinds},
    )
    return outcomes


def _look(
    connection: sqlite3.Connection, appends: Sequence[PreparedAppend]
) -> tuple[int, dict[AggregateRef, int], dict[UUID, Commit]]:
    """The head, the versions of all aggregates concerned, and the commits that are known."""
    refs = {ref for append in appends for ref in append.expected}
    ids = {append.commit_id for append in appends}
    [(head,)] = connection.execute(HEAD)
    versions = {
        ref: connection.execute(_VERSION, (ref.id.bytes, ref.name)).fetchone()[0] for ref in refs
    }
    found = {id: connection.execute(FIND_COMMIT, (id.bytes,) * 2).fetchone() for id in ids}
    return head, versions, {id: Commit(id, *row) for id, row in found.items() if row is not None}


def _insert_events(connection: sqlite3.Connection, rows: Sequence[Row], before: int) -> None:
    """Insert events after the head that was there before."""
    try:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            connection.execute(_insertion(len(some), 0), [value for row in some for value in row])
    except sqlite3.IntegrityError as error:
        ids = set()
        for id, *_ in rows:
            stored = "SELECT 1 FROM events WHERE id = ? AND position <= ?"
            if id in ids or connection.execute(stored, (id, before)).fetchone():
                raise EventIdReusedError(UUID(bytes=id)) from error
            ids.add(id)
        raise


@lru_cache(maxsize=200)
def _insertion(rows: int, guards: int) -> str:
    """Inserts events at the next positions, if all guarded aggregates are at their versions."""
    row = f"(NULL, {', '.join('?' * 12)})"
    values = f"VALUES {', '.join([row] * rows)}"
    if not guards:
        return f"INSERT INTO events {values}"
    return f"INSERT INTO events SELECT * FROM ({values}) WHERE " + " AND ".join(
        [f"({_VERSION}) = ?"] * guards
    )
