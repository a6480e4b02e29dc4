"""The snapshot store on PostgreSQL."""

from __future__ import annotations

from shop.backends.postgres.database import Database
from shop.eventsourcing.aggregates.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.events.event import AggregateRef


class PostgresSnapshotStore(SnapshotStore):
    """The latest snapshot of each aggregate, in a database that it does not own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = database.names.table("snapshots")

    def load(self, aggregate: AggregateRef) -> Snapshot | None:
        rows = self._database.read(
            f"SELECT version, event_id, shape, state FROM {self._table}"
            " WHERE aggregate_id = %s AND aggregate = %s",
            (aggregate.id, aggregate.name),
        )
        return Snapshot(aggregate, *rows[0]) if rows else None

    def save(self, snapshot: Snapshot) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                f"INSERT INTO {self._table} VALUES (%s, %s, %s, %s, %s, %b)"
                " ON CONFLICT (aggregate_id, aggregate) DO UPDATE SET version = excluded.version,"
                " event_id = excluded.event_id, shape = excluded.shape, state = excluded.state",
                (
                    snapshot.aggregate.id,
                    snapshot.aggregate.name,
                    snapshot.version,
                    snapshot.event_id,
                    snapshot.shape,
                    snapshot.state,
                ),
            )
