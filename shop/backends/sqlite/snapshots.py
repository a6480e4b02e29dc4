"""The snapshot store on SQLite."""

from __future__ import annotations

from uuid import UUID

from shop.backends.sqlite.database import Database
from shop.eventsourcing.aggregates.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.events.event import AggregateRef


class SqliteSnapshotStore(SnapshotStore):
    """The latest snapshot of each aggregate, in a database file that it does not own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, aggregate: AggregateRef) -> Snapshot | None:
        rows = self._database.read(
            "SELECT version, event_id, shape, state FROM snapshots"
            " WHERE aggregate_id = ? AND aggregate = ?",
            (aggregate.id.bytes, aggregate.name),
        )
        if not rows:
            return None
        version, event_id, shape, state = rows[0]
        return Snapshot(aggregate, version, UUID(bytes=event_id), shape, state)

    def save(self, snapshot: Snapshot) -> None:
        row = (
            snapshot.aggregate.id.bytes,
            snapshot.aggregate.name,
            snapshot.version,
            snapshot.event_id.bytes,
            snapshot.shape,
            snapshot.state,
        )
        self._database.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", row
            )
        )
