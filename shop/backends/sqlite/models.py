"""The model store on SQLite: a table for each collection, indexes on fields of the JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from shop.backends.sqlite.database import Database
from shop.eventsourcing.errors import CheckpointMovedError
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import (
    Checkpoint,
    Filter,
    ModelStore,
    Prepared,
    Reading,
    StoredModel,
    as_json,
    check_filter,
)

_DISCARD_AT_ONCE = 1000
"""Models that one transaction deletes."""
_WRITE_AT_ONCE = 100
"""Models that one statement writes."""


class SqliteModelStore(ModelStore):
    """Models and checkpoints in a database file that it does not own.

    A commit is one transaction.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prepared = Prepared()

    def prepare(self, collections: Sequence[Collection]) -> None:
        objects = {
            name: statement
            for collection in collections
            for name, statement in _definition(collection).items()
        }

        def define(connection: sqlite3.Connection) -> None:
            for statement in objects.values():
                connection.execute(statement)

        existing = self._database.read("SELECT name FROM sqlite_schema")
        if not objects.keys() <= {name for (name,) in existing}:
            self._database.write(define)
        self._prepared.add(collections)

    def checkpoint(self, projection: str) -> Checkpoint | None:
        rows = self._database.read(
            "SELECT generation, position, shape, store FROM checkpoints WHERE projection = ?",
            (projection,),
        )
        if not rows:
            return None
        generation, position, shape, store = rows[0]
        return Checkpoint(projection, generation, position, shape, UUID(bytes=store))

    def get(
        self, projection: str, collection: str, id: str, *, generation: int | None = None
    ) -> Reading[StoredModel | None]:
        found = self._select(projection, collection, generation, ["m.id = ?"], [id], "")
        return Reading(found.position, found.value[0] if found.value else None)

    def find(
        self,
        projection: str,
        collection: Collection,
        filter: Filter,
        *,
        generation: int | None = None,
    ) -> Reading[list[StoredModel]]:
        check_filter(collection, filter)
        # SQLite uses no index for what a plus stands before: ids are found by their own, and of
        # several fields the first one leads.
        plus = "" if filter.ids is None else "+"
        conditions = [
            f"{'+' if n else plus}{_field(name)} IS ?" for n, name in enumerate(filter.equal)
        ]
        parameters = [as_json(value) for value in filter.equal.values()]
        if filter.ids is not None:
            conditions.append("m.id IN (SELECT value FROM json_each(?))")
            parameters.append(msgspec.json.encode(filter.ids).decode())
        if filter.after is not None:
            conditions.append(f"({plus}m.rank, m.id) {'<' if filter.reverse else '>'} (?, ?)")
            parameters += filter.after
        if not filter.limit:
            conditions.append("FALSE")
        direction = "DESC" if filter.reverse else "ASC"
        order = f"ORDER BY {plus}m.rank {direction}, m.id {direction} LIMIT {filter.limit or 1}"
        return self._select(projection, collection.name, generation, conditions, parameters, order)

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        self._prepared.check(*{model.collection for model in models})
        self._database.write(lambda connection: _commit(connection, expected, checkpoint, models))

    def discard(self, collections: Sequence[str], generation: int) -> None:
        """Delete a generation in small transactions: others can write in between."""
        self._prepared.check(*collections)
        for collection in collections:
            statement = (
                f"DELETE FROM {_table(collection)} WHERE generation = ?1 AND id IN"
                f" (SELECT id FROM {_table(collection)} WHERE generation = ?1"
                f" LIMIT {_DISCARD_AT_ONCE})"
            )

            def delete(connection: sqlite3.Connection, sql: str = statement) -> int:
                return connection.execute(sql, (generation,)).rowcount

            while self._database.write(delete):
                pass

    def _select(
        self,
        projection: str,
        collection: str,
        generation: int | None,
        conditions: Sequence[str],
        parameters: Sequence[Any],
        order: str,
    ) -> Reading[list[StoredModel]]:
        """Models, and the position they have reached: by one statement, hence of one moment.

        After each statement, the thread queues for the interpreter's lock.
        """
        self._prepared.check(collection)
        wanted, given = ("?", [generation]) if generation is not None else ("c.generation", [])
        rows = self._database.read(
            "SELECT c.position, m.id, m.rank, m.position, m.data FROM checkpoints AS c"
            f" LEFT JOIN {_table(collection)} AS m"
            f" ON {' AND '.join([f'm.generation = {wanted}', *conditions])}"
            f" WHERE c.projection = ? {order}",
            [*given, *parameters, projection],
        )
        found = [StoredModel(collection, *row[1:]) for row in rows if row[1] is not None]
        return Reading(rows[0][0] if rows else 0, found)


def _commit(
    connection: sqlite3.Connection,
    expected: Checkpoint | None,
    checkpoint: Checkpoint,
    models: Sequence[StoredModel],
) -> None:
    values = (
        checkpoint.generation,
        checkpoint.position,
        checkpoint.shape,
        checkpoint.store.bytes,
        checkpoint.projection,
    )
    if expected is None:
        moved = connection.execute(
            "INSERT OR IGNORE INTO checkpoints (generation, position, shape, store, projection)"
            " VALUES (?, ?, ?, ?, ?)",
            values,
        ).rowcount
    else:
        moved = connection.execute(
            "UPDATE checkpoints SET generation = ?, position = ?, shape = ?, store = ?"
            " WHERE projection = ? AND generation = ? AND position = ?",
            (*values, expected.generation, expected.position),
        ).rowcount
    if not moved:
        raise CheckpointMovedError(checkpoint.projection)
    for collection in {model.collection for model in models}:
        _write(connection, checkpoint.generation, [m for m in models if m.collection == collection])


def _write(connection: sqlite3.Connection, generation: int, models: Sequence[StoredModel]) -> None:
    """Write models of one collection, many by one statement."""
    table = _table(models[0].collection)
    deleted = [model.id for model in models if model.data is None]
    if deleted:
        connection.execute(
            f"DELETE FROM {table} WHERE generation = ? AND id IN (SELECT value FROM json_each(?))",
            (generation, msgspec.json.encode(deleted).decode()),
        )
    rows = [(generation, m.id, m.rank, m.position, m.data) for m in models if m.data is not None]
    for start in range(0, len(rows), _WRITE_AT_ONCE):
        some = rows[start : start + _WRITE_AT_ONCE]
        marks = ", ".join(["(?, ?, ?, ?, ?)"] * len(some))
        connection.execute(
            f"INSERT OR REPLACE INTO {table} VALUES {marks}",
            [value for row in some for value in row],
        )


def _definition(collection: Collection) -> dict[str, str]:
    """The table and the indexes of a collection: what makes each, by their names."""
    table = _table(collection.name)
    statements = {
        table: f"CREATE TABLE IF NOT EXISTS {table} (generation INTEGER NOT NULL, id TEXT NOT NULL,"
        " rank INTEGER NOT NULL, position INTEGER NOT NULL, data TEXT NOT NULL,"
        " PRIMARY KEY (generation, id))",
    }
    for name, indexed in (
        ("in_order", "generation, rank, id"),
        *((f"by_{i}", f"generation, {_field(i)}, rank, id") for i in collection.indexes),
    ):
        index = f"{table}_{name}"
        statements[index] = f"CREATE INDEX IF NOT EXISTS {index} ON {table} ({indexed})"
    return statements


def _table(collection: str) -> str:
    return f"model_{collection}"


def _field(name: str) -> str:
    return f"json_extract(data, '$.{name}')"
