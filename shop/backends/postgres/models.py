"""The model store on PostgreSQL: a table for each collection, with a column for each index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from shop.backends.postgres.connections import Connection
from shop.backends.postgres.database import Database
from shop.backends.postgres.names import Names
from shop.eventsourcing.errors import CheckpointMovedError
from shop.eventsourcing.models.model import Collection, IndexValue
from shop.eventsourcing.models.model_store import (
    Checkpoint,
    Filter,
    ModelStore,
    Prepared,
    Reading,
    StoredModel,
    check_filter,
)

_DISCARD_AT_ONCE = 1000
"""Models that one transaction deletes."""
_LONGEST_KEY = 500
"""Characters. An index takes some 2,700 bytes."""

_encode = msgspec.json.encode


class PostgresModelStore(ModelStore):
    """Models and checkpoints in a database that it does not own.

    A commit is one transaction. It is not waited for until it is on disk: when the server crashes,
    models and checkpoint fall back together, and what was lost is folded again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names = database.names
        self._checkpoints = database.names.table("checkpoints")
        self._prepared = Prepared()

    def prepare(self, collections: Sequence[Collection]) -> None:
        objects = {
            name: statement
            for collection in collections
            for name, statement in _definition(self._names, collection).items()
        }
        existing = self._database.read(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)::oid",
            (self._names.schema,),
        )
        if not objects.keys() <= {name for (name,) in existing}:
            with self._database.defining() as connection:
                for statement in objects.values():
                    connection.execute(statement)
        self._prepared.add(collections)

    def checkpoint(self, projection: str) -> Checkpoint | None:
        rows = self._database.read(
            f"SELECT generation, position, shape, store FROM {self._checkpoints}"
            " WHERE projection = %s",
            (projection,),
        )
        return Checkpoint(projection, *rows[0]) if rows else None

    def get(
        self, projection: str, collection: str, id: str, *, generation: int | None = None
    ) -> Reading[StoredModel | None]:
        found = self._select(projection, collection, generation, ["id = %(id)s"], {"id": id})
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
        # PostgreSQL uses no index for "is not distinct from": the first field leads.
        conditions = [
            f"{_column(name)} {'IS NOT DISTINCT FROM' if n else '='} %({_column(name)})s"
            for n, name in enumerate(filter.equal)
        ]
        values: dict[str, Any] = {_column(k): _key(v) for k, v in filter.equal.items()}
        if filter.ids is not None:
            values["ids"] = list(filter.ids)
        if filter.after is not None:
            conditions.append(f"(rank, id) {'<' if filter.reverse else '>'} (%(rank)s, %(id)s)")
            values["rank"], values["id"] = filter.after
        direction = "DESC" if filter.reverse else "ASC"
        order = f"ORDER BY rank {direction}, id {direction}"
        return self._select(
            projection, collection.name, generation, conditions, values, order, filter.limit
        )

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        with self._database.transaction() as connection:
            self._move(connection, expected, checkpoint)
            for collection in {model.collection for model in models}:
                own = [model for model in models if model.collection == collection]
                self._write(connection, collection, checkpoint.generation, own)

    def discard(self, collections: Sequence[str], generation: int) -> None:
        """Delete a generation in small transactions: others can write in between."""
        self._prepared.check(*collections)
        for collection in collections:
            table = self._names.models(collection)
            deleted = _DISCARD_AT_ONCE
            while deleted == _DISCARD_AT_ONCE:
                with self._database.transaction() as connection:
                    deleted = connection.execute(
                        f"DELETE FROM {table} WHERE generation = %(generation)s AND id IN (SELECT"
                        f" id FROM {table} WHERE generation = %(generation)s LIMIT %(most)s)",
                        {"generation": generation, "most": _DISCARD_AT_ONCE},
                    ).rowcount

    def _select(
        self,
        projection: str,
        collection: str,
        generation: int | None,
        conditions: Sequence[str],
        values: Mapping[str, Any],
        order: str = "",
        limit: int = 1,
    ) -> Reading[list[StoredModel]]:
        """Models, and the position they have reached, both of the same moment."""
        self._prepared.check(collection)
        models = self._names.models(collection)
        wanted = "live.generation" if generation is None else "%(generation)s"
        if "ids" in values:
            # One by one: else, so that nothing need be sorted, all models are taken in their order.
            models = (
                f"unnest(%(ids)s::text[]) AS wanted(wanted_id) CROSS JOIN LATERAL (SELECT * FROM"
                f" {models} WHERE generation = {wanted} AND id = wanted_id LIMIT 1) AS one"
            )
        rows = self._database.read(
            "SELECT live.position, found.id, found.rank, found.position, found.data FROM"
            " (SELECT coalesce(max(position), 0) AS position, coalesce(max(generation), 0) AS"
            f" generation FROM {self._checkpoints} WHERE projection = %(projection)s) AS live"
            " LEFT JOIN LATERAL (SELECT id, rank, position, data::text AS data FROM"
            f" {models} WHERE {' AND '.join([f'generation = {wanted}', *conditions])}"
            f" {order} LIMIT %(limit)s) AS found ON true {order}",
            {"projection": projection, "generation": generation, "limit": limit, **values},
        )
        found = [StoredModel(collection, *row[1:]) for row in rows if row[1] is not None]
        return Reading(rows[0][0], found)

    def _move(
        self, connection: Connection, expected: Checkpoint | None, checkpoint: Checkpoint
    ) -> None:
        values = {name: getattr(checkpoint, name) for name in checkpoint.__struct_fields__}
        if expected is None:
            moved = connection.execute(
                f"INSERT INTO {self._checkpoints} VALUES (%(projection)s, %(generation)s,"
                " %(position)s, %(shape)s, %(store)s) ON CONFLICT DO NOTHING",
                values,
            ).rowcount
        else:
            moved = connection.execute(
                f"UPDATE {self._checkpoints} SET generation = %(generation)s, position ="
                " %(position)s, shape = %(shape)s, store = %(store)s WHERE projection ="
                " %(projection)s AND generation = %(old_generation)s AND position = %(old)s",
                values | {"old_generation": expected.generation, "old": expected.position},
            ).rowcount
        if not moved:
            raise CheckpointMovedError(checkpoint.projection)

    def _write(
        self,
        connection: Connection,
        collection: str,
        generation: int,
        models: Sequence[StoredModel],
    ) -> None:
        """Write models of one collection by one statement, and delete the others."""
        indexes = self._prepared.indexes(collection)
        table = self._names.models(collection)
        rows = [_row(model, indexes) for model in models if model.data is not None]
        deleted = [model.id for model in models if model.data is None]
        if deleted:
            # One by one, but in one round trip: for any of many, all models might be looked at.
            connection.cursor().executemany(
                f"DELETE FROM {table} WHERE generation = %s AND id = %s",
                [(generation, id) for id in deleted],
            )
        if rows:
            by = [_column(name) for name in indexes]
            columns = ", ".join(["id", "rank", "position", *by])
            typed = ", ".join(["id text, rank bigint, position bigint", *(f"{c} text" for c in by)])
            updates = ", ".join(f"{c} = excluded.{c}" for c in ["data", "rank", "position", *by])
            connection.execute(
                f"INSERT INTO {table} (generation, data, {columns})"
                f" SELECT %s, data::json, {columns}"
                f" FROM json_to_recordset(%s) AS new(data text, {typed})"
                f" ON CONFLICT (generation, id) DO UPDATE SET {updates}",
                (generation, _encode(rows).decode()),
            )


def _row(model: StoredModel, indexes: Sequence[str]) -> dict[str, Any]:
    fields = msgspec.json.decode(model.data or "{}", type=dict[str, Any]) if indexes else {}
    return {
        "id": model.id,
        "rank": model.rank,
        "position": model.position,
        "data": model.data,  # as text: within JSON, PostgreSQL would refuse the escape of a NUL
        **{_column(name): _key(fields.get(name)) for name in indexes},
    }


def _definition(names: Names, collection: Collection) -> dict[str, str]:
    """The table and the indexes of a collection: what makes each, by their names."""
    table = names.models(collection.name)
    local = f"{names.prefix}{names.part(f'model_{collection.name}')}"
    columns = [f'{_column(name)} text COLLATE "C"' for name in collection.indexes]
    statements = {
        local: f'CREATE TABLE IF NOT EXISTS {table} (generation bigint, id text COLLATE "C",'
        " rank bigint NOT NULL, position bigint NOT NULL, data json NOT NULL,"
        " PRIMARY KEY (generation, id))",
    }
    for name, indexed in (
        ("in_order", "generation, rank, id"),
        *((_column(i), f"generation, {_column(i)}, rank, id") for i in collection.indexes),
    ):
        index = f"{names.prefix}{names.part(f'model_{collection.name}_{name}')}"
        added = [f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {c}; " for c in columns]
        statements[index] = (
            f"{''.join(added)}CREATE INDEX IF NOT EXISTS {index} ON {table} ({indexed})"
        )
    return statements


def _column(name: str) -> str:
    return f"by_{name}"


def _key(value: IndexValue | None) -> str:
    """The value as text that no value of another type has, of a length that indexes take."""
    text = _encode(value).decode()
    if len(text) <= _LONGEST_KEY:
        return text
    return text[:_LONGEST_KEY] + blake2b(text.encode(), digest_size=16).hexdigest()
