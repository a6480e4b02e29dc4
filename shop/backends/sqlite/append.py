"""Appending to the log: several appends in one transaction, in as few statements as possible."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import msgspec

from shop.backends.sqlite.query import microseconds
from shop.eventsourcing.errors import CommitReusedError, ConcurrencyError, EventIdReusedError
from shop.eventsourcing.event import AggregateRef
from shop.eventsourcing.store import Commit, PreparedAppend

_ROWS_AT_ONCE = 100
"""Rows or streams of one statement. SQLite allows it some 30,000 parameters."""


Row = tuple[Any, ...]
Kind = tuple[str, str, int]
"""Aggregate, event name and schema version."""


class Append(msgspec.Struct, frozen=True):
    """An append, with the columns of its events (all but the position)."""

    prepared: PreparedAppend
    rows: Sequence[Row]
    new_kinds: Collection[Kind]

    @classmethod
    def of(cls, prepared: PreparedAppend, new_kinds: Collection[Kind]) -> Append:
        """Work out the columns, which needs no database."""
        rows = [
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
            )
            for event, data in zip(prepared.events, prepared.payloads, strict=True)
        ]
        return cls(prepared, rows, new_kinds)


def append_all(
    connection: sqlite3.Connection, appends: Sequence[Append]
) -> Sequence[Commit | Exception]:
    """Do the appends one after the other, each with its own outcome.

    The write lock is held, so what is found out at the beginning stays true but for what these
    appends change themselves.
    """
    commits = _known_commits(connection, [append.prepared for append in appends])
    versions = _versions(connection, {ref for a in appends for ref in a.prepared.expected})
    [(head,)] = connection.execute("SELECT coalesce(max(position), 0) FROM events")
    outcomes: list[Commit | Exception] = []
    events: list[Row] = []
    new_commits: list[Row] = []
    new_kinds: set[Kind] = set()
    for append in appends:
        prepared = append.prepared
        try:
            known = commits.get(prepared.commit_id.bytes)
            if known is not None:
                outcomes.append(prepared.replay(known))
                continue
            prepared.check(versions)
        except (CommitReusedError, ConcurrencyError) as error:
            outcomes.append(error)
            continue
        events += ((position, *row) for position, row in enumerate(append.rows, head + 1))
        versions |= {event.aggregate: event.version for event in prepared.events}
        commit = Commit(prepared.commit_id, head + 1, head + len(append.rows), prepared.digest)
        commits[commit.id.bytes] = commit
        new_commits.append((commit.id.bytes, commit.first, commit.last, commit.digest))
        new_kinds.update(append.new_kinds)
        outcomes.append(commit)
        head = commit.last
    try:
        _insert(connection, "events", events)
    except sqlite3.IntegrityError as error:
        _explain(connection, events, error)
        raise
    _insert(connection, "commits", new_commits)
    if new_kinds:
        connection.executemany("INSERT OR IGNORE INTO event_kinds VALUES (?, ?, ?)", new_kinds)
    return outcomes


def _known_commits(
    connection: sqlite3.Connection, appends: Collection[PreparedAppend]
) -> dict[bytes, Commit]:
    ids = {append.commit_id.bytes: append.commit_id for append in appends}
    rows = connection.execute(
        f"SELECT id, first, last, digest FROM commits WHERE id IN ({_marks(len(ids))})", [*ids]
    )
    return {id: Commit(ids[id], first, last, digest) for id, first, last, digest in rows}


def _versions(
    connection: sqlite3.Connection, refs: Collection[AggregateRef]
) -> dict[AggregateRef, int]:
    """The current versions, each by one look at the end of its stream's index."""
    versions: dict[AggregateRef, int] = {}
    every = list(refs)
    for start in range(0, len(every), _ROWS_AT_ONCE):
        some = every[start : start + _ROWS_AT_ONCE]
        rows = connection.execute(
            "SELECT (SELECT coalesce(max(version), 0) FROM events"
            " WHERE aggregate_id = column1 AND aggregate = column2)"
            f" FROM (VALUES {', '.join(['(?, ?)'] * len(some))})",
            [value for ref in some for value in (ref.id.bytes, ref.name)],
        )
        versions |= {ref: version for ref, (version,) in zip(some, rows, strict=True)}
    return versions


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        marks = ", ".join([f"({_marks(len(some[0]))})"] * len(some))
        connection.execute(
            f"INSERT INTO {table} VALUES {marks}", [value for row in some for value in row]
        )


def _explain(connection: sqlite3.Connection, events: Sequence[Row], error: Exception) -> None:
    """Raise :class:`EventIdReusedError` where an event's id is what was refused."""
    for position, id, *_ in events:
        found = connection.execute("SELECT position FROM events WHERE id = ?", (id,)).fetchone()
        if found and found[0] != position:
            raise EventIdReusedError(UUID(bytes=id)) from error


def _marks(count: int) -> str:
    return ", ".join("?" * count)
