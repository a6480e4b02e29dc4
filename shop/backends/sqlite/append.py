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
"""Rows of one INSERT. SQLite allows a statement some 30,000 parameters."""
_LOOK_UPS_AT_ONCE = 500
"""Columns of one SELECT. SQLite allows 2,000."""
_HEAD = "SELECT coalesce(max(position), 0) FROM events"
_VERSION = "SELECT coalesce(max(version), 0) FROM events WHERE aggregate_id = ? AND aggregate = ?"
_COMMIT = "SELECT first FROM commits WHERE id = ?"

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
    head, versions, commits = _look(connection, [append.prepared for append in appends])
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


def _look(
    connection: sqlite3.Connection, appends: Sequence[PreparedAppend]
) -> tuple[int, dict[AggregateRef, int], dict[bytes, Commit]]:
    """The head, the versions of all aggregates concerned, and those of the commits that are known.

    One row of look-ups, each at the end of an index: for a few appends that is one statement.
    """
    refs = list({ref for append in appends for ref in append.expected})
    ids = list({append.commit_id: None for append in appends})
    look_ups = [(_HEAD, ()), *((_VERSION, (ref.id.bytes, ref.name)) for ref in refs)]
    look_ups += ((_COMMIT, (id.bytes,)) for id in ids)
    found: list[Any] = []
    for start in range(0, len(look_ups), _LOOK_UPS_AT_ONCE):
        some = look_ups[start : start + _LOOK_UPS_AT_ONCE]
        found += connection.execute(
            f"SELECT {', '.join(f'({sql})' for sql, _ in some)}",
            [value for _, values in some for value in values],
        ).fetchone()
    head, versions, known = found[0], found[1 : len(refs) + 1], found[len(refs) + 1 :]
    commits = {
        id.bytes: _commit(connection, id)
        for id, first in zip(ids, known, strict=True)
        if first is not None
    }
    return head, dict(zip(refs, versions, strict=True)), commits


def _commit(connection: sqlite3.Connection, id: UUID) -> Commit:
    row = connection.execute("SELECT first, last, digest FROM commits WHERE id = ?", (id.bytes,))
    first, last, digest = row.fetchone()
    return Commit(id, first, last, digest)


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
