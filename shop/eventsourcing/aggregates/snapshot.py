"""Snapshots: the state of an aggregate at a version, so that loading it reads only what is newer.

The same snapshots fill the bounded cache of hot aggregates, in memory, and the snapshot store,
beside the events. Neither is ever believed blindly: a snapshot names the event it was taken at,
and is thrown away where the stream has another one there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol
from uuid import UUID

import msgspec

from shop.eventsourcing.events.event import AggregateRef


class Snapshot(msgspec.Struct, frozen=True):
    """An encoded aggregate. ``shape`` stands for the fields of its class when it was taken.

    Version 0 stands for an aggregate that does not exist, in the cache only.
    """

    aggregate: AggregateRef
    version: int
    event_id: UUID
    shape: str
    state: bytes


class SnapshotStore(Protocol):
    """Keeps the latest snapshot of each aggregate. Thread-safe; losing it loses only time."""

    def load(self, aggregate: AggregateRef) -> Snapshot | None:
        """The snapshot of an aggregate, ``None`` where there is none."""
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of the aggregate's earlier one."""
        ...


class SnapshotCache(SnapshotStore):
    """Keeps snapshots in memory, and forgets what was used least recently."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._snapshots: OrderedDict[AggregateRef, Snapshot] = OrderedDict()

    def load(self, aggregate: AggregateRef) -> Snapshot | None:
        with self._lock:
            snapshot = self._snapshots.get(aggregate)
            if snapshot is not None:
                self._snapshots.move_to_end(aggregate)
            return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, unless a newer one of the aggregate is there."""
        with self._lock:
            known = self._snapshots.get(snapshot.aggregate)
            if known is not None and known.version > snapshot.version:
                return
            self._snapshots[snapshot.aggregate] = snapshot
            self._snapshots.move_to_end(snapshot.aggregate)
            if len(self._snapshots) > self._capacity:
                self._snapshots.popitem(last=False)

    def forget(self, aggregate: AggregateRef) -> None:
        """Drop the snapshot of an aggregate, if there is one."""
        with self._lock:
            self._snapshots.pop(aggregate, None)
