"""The in-memory snapshot store."""

from __future__ import annotations

from shop.eventsourcing.aggregates.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.events.event import AggregateRef


class MemorySnapshotStore(SnapshotStore):
    """A dict of snapshots. Its operations are atomic in CPython, hence it needs no lock."""

    def __init__(self) -> None:
        self._snapshots: dict[AggregateRef, Snapshot] = {}

    def load(self, aggregate: AggregateRef) -> Snapshot | None:
        return self._snapshots.get(aggregate)

    def save(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.aggregate] = snapshot
