"""The snapshot store on MongoDB."""

from __future__ import annotations

from uuid import UUID

from shop.backends.mongodb.database import Database
from shop.backends.mongodb.documents import Document, check_size
from shop.eventsourcing.aggregates.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.events.event import AggregateRef


class MongoSnapshotStore(SnapshotStore):
    """The latest snapshot of each aggregate, in a database that it does not own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, aggregate: AggregateRef) -> Snapshot | None:
        with self._database.using("snapshots") as snapshots:
            found = snapshots.find_one({"_id": str(aggregate)})
        if found is None:
            return None
        return Snapshot(
            aggregate,
            int(found["version"]),
            UUID(found["event_id"]),
            found["shape"],
            bytes(found["state"]),
        )

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot. Raises :class:`StoreError` for one of more than 16 MB."""
        check_size(f"the snapshot of {snapshot.aggregate}", len(snapshot.state))
        document: Document = {
            "version": snapshot.version,
            "event_id": str(snapshot.event_id),
            "shape": snapshot.shape,
            "state": snapshot.state,
        }
        with self._database.using("snapshots") as snapshots:
            snapshots.replace_one({"_id": str(snapshot.aggregate)}, document, upsert=True)
