"""Appending to the log: several appends in one transaction, mostly in one round trip."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg import errors

from shop.backends.postgres.connections import Connection
from shop.backends.postgres.names import Names
from shop.eventsourcing.append import PreparedAppend, decide
from shop.eventsourcing.errors import EventIdReusedError
from shop.eventsourcing.event import AggregateRef
from shop.eventsourcing.store import Commit

Kind = tuple[str, str, int]
"""Aggregate, event name and schema version."""

_encode = msgspec.json.encode


class Append(msgspec.Struct, frozen=True):
    """An append, with its events as the database takes them."""

    prepared: PreparedAppend
    rows: Sequence[Mapping[str, Any]]
    new_kinds: Collection[Kind]

    @classmethod
    def of(cls, prepared: PreparedAppend, new_kinds: Collection[Kind]) -> Append:
        """Work out the columns, which needs no database."""
        rows: list[dict[str, Any]] = [
            {
                "id": event.id,
                "name": event.name,
                "schema_version": event.data.wire.version,
                "time": event.time,
                "aggregate": event.aggregate.name,
                "aggregate_id": event.aggregate.id,
                "version": event.version,
                # As text: within JSON, PostgreSQL would refuse the escape of a NUL.
                "data": data.decode(),
                "metadata": _encode(event.metadata).decode(),
            }
            for event, data in zip(prepared.events, prepared.payloads, strict=True)
        ]
        if rows:
            rows[-1] |= {
                "commit_id": prepared.commit_id,
                "commit_size": len(rows),
                "digest": prepared.digest.hex(),
            }
        return cls(prepared, rows, new_kinds)


def append_at_once(
    connection: Connection, names: Names, appends: Sequence[Append]
) -> list[Commit] | None:
    """Do all the appends by one call, which is a transaction of its own.

    None when something stands in the way, or when the appends are not as simple as most are;
    nothing is written then.
    """
    expected = _expected(appends)
    if expected is None or any(append.new_kinds or not append.rows for append in appends):
        return None
    try:
        last = _insert(connection, names, expected, appends)
    except errors.UniqueViolation:
        return None  # an event's id is taken: to be looked at one by one
    return None if last is None else _commits(appends, last)


def append_carefully(
    connection: Connection, names: Names, appends: Sequence[Append]
) -> list[Commit | Exception]:
    """Look first, then insert what is in order. Within a transaction.

    The lock of the order is held, so what is found out at the beginning stays true but for what
    these appends change themselves. Raises :class:`EventIdReusedError` for all of them.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (names.lock,))
    prepared = [append.prepared for append in appends]
    outcomes = decide(prepared, *_look(connection, names, prepared))
    accepted = [
        (append, outcome)
        for append, outcome in zip(appends, outcomes, strict=True)
        if isinstance(outcome, Commit) and not outcome.replayed
    ]
    with_events = [append for append, commit in accepted if commit.size]
    if with_events:
        try:
            _insert(connection, names, {}, with_events)
        except errors.UniqueViolation as error:
            raise _reused(error) from error
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {names.table('empty_commits')} VALUES (%s, %s, %s)",
            [(c.id, c.last, c.digest) for _, c in accepted if not c.size],
        )
        cursor.executemany(
            f"INSERT INTO {names.table('event_kinds')} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            {kind for append, _ in accepted for kind in append.new_kinds},
        )
    return outcomes


def find_commits(connection: Connection, names: Names, ids: Sequence[UUID]) -> dict[UUID, Commit]:
    """Those of these commits that the store knows."""
    rows = connection.execute(
        f"SELECT commit_id, position - commit_size + 1, position, digest FROM {names.events}"
        " WHERE commit_id = ANY (%(ids)s)"
        f" UNION ALL SELECT id, head + 1, head, digest FROM {names.table('empty_commits')}"
        " WHERE id = ANY (%(ids)s)",
        {"ids": list(ids)},
        binary=True,
    )
    return {row[0]: Commit(*row) for row in rows}


def _look(
    connection: Connection, names: Names, appends: Sequence[PreparedAppend]
) -> tuple[int, dict[AggregateRef, int], dict[UUID, Commit]]:
    """The head, the versions of all aggregates concerned, and the commits that are known."""
    refs = list({ref for append in appends for ref in append.expected})
    versions = connection.execute(
        "SELECT wanted.number, (SELECT known.version"
        f" FROM {names.events} AS known"
        " WHERE known.aggregate_id = wanted.id AND known.aggregate = wanted.name"
        " ORDER BY known.version DESC LIMIT 1)"
        " FROM ROWS FROM (json_to_recordset(%s) AS (name text, id uuid))"
        " WITH ORDINALITY AS wanted(name, id, number)",
        (_encode(refs).decode(),),
        binary=True,
    ).fetchall()
    [(head,)] = connection.execute(
        f"SELECT coalesce(max(position), 0) FROM {names.events}", binary=True
    )
    return (
        head,
        {refs[number - 1]: version or 0 for number, version in versions},
        find_commits(connection, names, [append.commit_id for append in appends]),
    )


def _insert(
    connection: Connection,
    names: Names,
    expected: Mapping[AggregateRef, int],
    appends: Sequence[Append],
) -> int | None:
    """Call the schema's function; the last position, or nothing where it refused."""
    wanted = [
        {"aggregate": ref.name, "id": ref.id, "version": version}
        for ref, version in expected.items()
    ]
    rows = [row for append in appends for row in append.rows]
    last: int | None
    [(last,)] = connection.execute(
        f"SELECT {names.table('append')}(%s, %s::uuid[], %s)",
        (
            _encode(wanted).decode(),
            # A list of UUIDs would be the dearest parameter of all.
            f"{{{','.join(str(append.prepared.commit_id) for append in appends)}}}",
            _encode(rows).decode(),
        ),
        binary=True,
    )
    return last


def _expected(appends: Sequence[Append]) -> dict[AggregateRef, int] | None:
    """The version that each aggregate must have before the appends, if they can all be done."""
    expected: dict[AggregateRef, int] = {}
    reached: dict[AggregateRef, int] = {}
    for append in appends:
        for ref, version in append.prepared.expected.items():
            if reached.setdefault(ref, version) != version:
                return None
            expected.setdefault(ref, version)
        for event in append.prepared.events:
            reached[event.aggregate] = event.version
    return expected


def _commits(appends: Sequence[Append], last: int) -> list[Commit]:
    """What the appends became, the last event of all being at this position."""
    first = last + 1 - sum(len(append.rows) for append in appends)
    commits = []
    for append in appends:
        commits.append(
            Commit(
                append.prepared.commit_id,
                first,
                first + len(append.rows) - 1,
                append.prepared.digest,
            )
        )
        first += len(append.rows)
    return commits


def _reused(error: errors.UniqueViolation) -> Exception:
    """The error for an event whose id is taken, which PostgreSQL names in its detail."""
    id = re.search(r"Key \(id\)=\(([0-9a-f-]{36})\)", error.diag.message_detail or "")
    return EventIdReusedError(UUID(id[1])) if id else error
