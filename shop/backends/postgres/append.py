"""Appending to the log: several appends in one transaction, in one round trip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any
from uuid import UUID

import msgspec
from psycopg import errors

from shop.backends.postgres.connections import Connection
from shop.backends.postgres.names import Names
from shop.eventsourcing.errors import EventIdReusedError
from shop.eventsourcing.events.event import AggregateRef
from shop.eventsourcing.stores.append import Kind, PreparedAppend, check_replicas, decide
from shop.eventsourcing.stores.store import Commit

_encode = msgspec.json.encode


class Append(msgspec.Struct, frozen=True):
    """An append, with its events as the database takes them."""

    prepared: PreparedAppend
    rows: Sequence[Mapping[str, Any]]
    kinds: Set[Kind]

    @classmethod
    def of(cls, prepared: PreparedAppend) -> Append:
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
        return cls(prepared, rows, prepared.kinds)


def append_all(
    connection: Connection, names: Names, appends: Sequence[Append]
) -> Iterator[tuple[int, Commit | Exception]]:
    """Do the appends one after the other; yield the number and the outcome of each once known.

    All that fit together are done by one call, which is a transaction. Where it refuses, a look
    tells which of them cannot be done, and the call is repeated with the others. No lock is held
    in between.
    """
    left = dict(enumerate(appends))
    while left:
        batch, expected = _fitting(left)
        outcomes: dict[int, Commit | Exception] = {}
        try:
            head = _call(connection, names, list(batch.values()), expected)
        except errors.UniqueViolation as error:
            reused = _reused(error)
            [n] = (
                n
                for n, append in batch.items()
                if any(event.id == reused.event_id for event in append.prepared.events)
            )
            outcomes[n] = reused
        else:
            if head is None:
                outcomes = _refused(connection, names, batch)
            else:
                outcomes = dict(zip(batch, _commits(batch.values(), head), strict=True))
        for n in outcomes:
            del left[n]
        yield from outcomes.items()


def replicate_all(
    connection: Connection, names: Names, appends: Sequence[Append], commits: Sequence[Commit]
) -> None:
    """Do the appends so that they become these commits. Raises as ``EventStore.replicate``."""
    prepared = [append.prepared for append in appends]
    while True:
        outcomes = decide(prepared, *_look(connection, names, prepared))
        check_replicas(commits, outcomes)
        left = {
            n: append
            for n, (append, outcome) in enumerate(zip(appends, outcomes, strict=True))
            if isinstance(outcome, Commit) and not outcome.replayed
        }
        if not left:
            return
        batch, expected = _fitting(left)
        after = commits[min(left)].first - 1
        try:
            # It refuses what another session has made wrong since the look: so look again.
            _call(connection, names, list(batch.values()), expected, after=after)
        except errors.UniqueViolation as error:
            raise _reused(error) from error


def find_commits(connection: Connection, names: Names, ids: Sequence[UUID]) -> dict[UUID, Commit]:
    """The commits of these ids that the store knows, by id."""
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
    """The head, the versions of all aggregates concerned, and the commits that are known.

    In this order: a commit that is done meanwhile may be missing among the versions and be there
    among the commits, but not the other way round.
    """
    [(head,)] = connection.execute(names.head, binary=True)
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
    return (
        head,
        {refs[number - 1]: version or 0 for number, version in versions},
        find_commits(connection, names, [append.commit_id for append in appends]),
    )


def _fitting(
    appends: Mapping[int, Append],
) -> tuple[dict[int, Append], dict[AggregateRef, int]]:
    """The first appends, as many as one call can do, and the versions that it is to expect.

    They end before an append that contradicts an earlier one or shares an id with it: what becomes
    of the earlier one decides about it.
    """
    fitting: dict[int, Append] = {}
    expected: dict[AggregateRef, int] = {}
    reached: dict[AggregateRef, int] = {}
    ids: set[UUID] = set()
    for n, append in appends.items():
        wanted = append.prepared.expected
        own = {append.prepared.commit_id, *(event.id for event in append.prepared.events)}
        if not ids.isdisjoint(own) or any(
            reached.get(ref, version) != version for ref, version in wanted.items()
        ):
            break
        fitting[n] = append
        ids |= own
        for ref, version in wanted.items():
            expected.setdefault(ref, version)
            reached[ref] = version
        for event in append.prepared.events:
            reached[event.aggregate] = event.version
    return fitting, expected


def _call(
    connection: Connection,
    names: Names,
    appends: Sequence[Append],
    expected: Mapping[AggregateRef, int],
    *,
    after: int | None = None,
) -> int | None:
    """Call the schema's function ``append``: the head that it found, ``None`` where it refused.

    With ``after`` it also refuses where the head is another one.
    """
    wanted = [
        {"aggregate": ref.name, "id": ref.id, "version": version}
        for ref, version in expected.items()
    ]
    rows = [row for append in appends for row in append.rows]
    kinds = frozenset[Kind]().union(*(append.kinds for append in appends))
    new_kinds = kinds - connection.known_kinds
    empty = []
    number = 0
    for append in appends:
        number += len(append.rows)
        if not append.rows:
            prepared = append.prepared
            empty.append(
                {"id": prepared.commit_id, "after": number, "digest": prepared.digest.hex()}
            )
    head: int | None
    [(head,)] = connection.execute(
        f"SELECT {names.table('append')}(%s, %s::uuid[], %s, %s, %s, %s)",
        (
            _encode(wanted).decode(),
            # A list of UUIDs would be the dearest parameter of all.
            f"{{{','.join(str(append.prepared.commit_id) for append in appends)}}}",
            _encode(rows).decode(),
            _encode(empty).decode() if empty else None,
            _encode(list(new_kinds)).decode() if new_kinds else None,
            after,
        ),
        binary=True,
    )
    if head is not None:
        connection.known_kinds |= new_kinds
    return head


def _commits(appends: Iterable[Append], head: int) -> Iterator[Commit]:
    """The commits that appends became which were done at this head."""
    for append in appends:
        first, head = head + 1, head + len(append.rows)
        yield Commit(append.prepared.commit_id, first, head, append.prepared.digest)


def _refused(
    connection: Connection, names: Names, batch: Mapping[int, Append]
) -> dict[int, Commit | Exception]:
    """The outcomes of a refused batch's appends that cannot be done, as far as the store tells.

    Empty where the reason of the refusal has gone meanwhile.
    """
    prepared = [append.prepared for append in batch.values()]
    outcomes = decide(prepared, *_look(connection, names, prepared))
    return {
        n: outcome
        for n, outcome in zip(batch, outcomes, strict=True)
        if isinstance(outcome, Exception) or outcome.replayed
    }


def _reused(error: errors.UniqueViolation) -> EventIdReusedError:
    """The error for an event whose id is taken, which PostgreSQL names in its detail.

    Raises the error itself where it is about something else.
    """
    id = re.search(r"\(\"?id\"?\)=\(([0-9a-f-]{36})\)", error.diag.message_detail or "")
    if id is None or not (error.diag.table_name or "").endswith("events"):
        raise error
    return EventIdReusedError(UUID(id[1]))
