"""Loading aggregates: from a cache, a snapshot or all of their events."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregates.aggregate import Aggregate, ref_of
from shop.eventsourcing.aggregates.snapshot import Snapshot, SnapshotCache, SnapshotStore
from shop.eventsourcing.errors import StoreError, StoreUnavailableError
from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.stores.store import EventStore, Query

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Aggregate)

_NO_EVENT = UUID(int=0)
"""Stands in the cache for the last event of an aggregate that does not exist."""
_AT_ONCE = 100
"""How many aggregates one query loads: a page of it visits the events of all of them."""


class Aggregates:
    """Loads aggregates of any kind from an event store. Thread-safe.

    Hot aggregates come from a cache of ``cache_size`` states, which costs one short read of what
    is newer. Where there is a snapshot store, each aggregate is snapshotted whenever its version
    passes a multiple of ``snapshot_every``, so that long streams stay cheap after a restart too.
    """

    def __init__(
        self,
        store: EventStore,
        snapshots: SnapshotStore | None = None,
        *,
        snapshot_every: int = 100,
        cache_size: int = 10_000,
    ) -> None:
        self.events = store
        """The store that they come from. The caller closes it."""
        self._snapshots = snapshots
        self._snapshot_every = snapshot_every
        self._cache = SnapshotCache(capacity=cache_size)

    def load(
        self,
        cls: type[A],
        id: UUID,
        *,
        version: int | None = None,
        at: datetime | None = None,
        position: int | None = None,
    ) -> A:
        """The aggregate as it stands, or as it stood at a version, a time or a position of the log.

        At version 0 when nothing has happened to it by then. Several bounds all apply. Raises
        ``ValueError`` for a time without a time zone.
        """
        ref = ref_of(cls, id)
        if at is not None and at.tzinfo is None:
            raise ValueError("at needs a time zone")
        until = _Bounds(version, at, position)
        # Not from a snapshot where a time bounds: with a clock set back, one of the events that
        # it has passed may be later than one after it.
        cached = self._cache.load(ref) if at is None else None
        loaded = self._from_snapshot(cls, cached, until)
        if loaded is None and cached is not None and cached.version and until.now:
            self._cache.forget(ref)  # it is not of this stream, or of another shape
        aggregate, last, since = loaded or self._load_cold(cls, ref, until)
        if last is not None and until.now and (cached is None or last.id != cached.event_id):
            self._remember(aggregate, last.id, since=since)
        return aggregate

    def _load_cold(self, cls: type[A], ref: AggregateRef, until: _Bounds) -> _Loaded[A]:
        """The aggregate from its events, or from the stored snapshot where they are many."""
        aggregate, last = self._replay(cls(ref.id), until, limit=self._snapshot_every)
        if aggregate.version < self._snapshot_every:
            return _Loaded(aggregate, last, 0)  # too short for a snapshot, as most are
        stored = self._snapshots.load(ref) if self._snapshots and until.at is None else None
        loaded = self._from_snapshot(cls, stored, until)
        if loaded is not None:
            return loaded
        aggregate, latest = self._replay(aggregate, until)
        return _Loaded(aggregate, latest or last, 0)

    def cached(self, cls: type[A], id: UUID) -> A | None:
        """The aggregate as it is in the cache; ``None`` when it is not there.

        It may be stale. At version 0 it did not exist when it was looked for. So this is for
        decisions that are checked when they are committed.
        """
        cached = self._cache.load(ref_of(cls, id))
        return _decoded(cls, cached) if cached and cached.shape == cls.shape else None

    def preload(self, wanted: Iterable[tuple[type[Aggregate], UUID]]) -> None:
        """Load those that are not cached, many by one query; those that do not exist, as version 0.

        This only saves time. An aggregate that cannot be loaded keeps those out that are loaded
        with it: loading it later raises the error. Raises :class:`StoreUnavailableError`.
        """
        refs = ((AggregateRef(cls.kind, id), cls) for cls, id in wanted)
        missing = {ref: cls for ref, cls in refs if self._cache.load(ref) is None}
        all_refs = list(missing)
        for start in range(0, len(all_refs), _AT_ONCE):
            some = all_refs[start : start + _AT_ONCE]
            try:
                self._load_together({ref: missing[ref](ref.id) for ref in some})
            except StoreUnavailableError:
                raise
            except Exception:
                logger.debug("some aggregates could not be loaded together", exc_info=True)

    def _load_together(self, missing: Mapping[AggregateRef, Aggregate]) -> None:
        last: dict[AggregateRef, UUID] = {}
        query = Query(refs=list(missing), versions=(1, self._snapshot_every))
        for event in self.events.read(query):
            missing[event.aggregate].replay(event)
            last[event.aggregate] = event.id
        for ref, aggregate in missing.items():
            if aggregate.version < self._snapshot_every:
                self._remember(aggregate, last.get(ref, _NO_EVENT), since=0)
            else:
                self.load(type(aggregate), ref.id)  # there may be a snapshot of it

    def saved(self, aggregate: Aggregate, last: Event[EventData], stored_version: int) -> None:
        """Cache an aggregate that was just saved, ``last`` being its newest event."""
        self._remember(aggregate, last.id, since=stored_version)

    def _from_snapshot(
        self, cls: type[A], snapshot: Snapshot | None, until: _Bounds
    ) -> _Loaded[A] | None:
        """The aggregate from a snapshot and the events after it.

        ``None`` if the snapshot is of another shape or too new for the bounds, if it cannot be
        decoded, or if the event it was taken at is not in the stream.
        """
        if snapshot is None or not snapshot.version or snapshot.shape != cls.shape:
            return None
        events = self.events.read(until.query(snapshot.aggregate, snapshot.version))
        last = next(events, None)
        if last is None or last.id != snapshot.event_id:
            return None
        aggregate = _decoded(cls, snapshot)
        if aggregate is None:
            return None
        for last in events:
            aggregate.replay(last)
        return _Loaded(aggregate, last, snapshot.version)

    def _replay(
        self, aggregate: A, until: _Bounds, *, limit: int | None = None
    ) -> tuple[A, Event[EventData] | None]:
        """Replay the next events on the aggregate; return it with the last of them."""
        last = None
        for event in self.events.read(until.query(aggregate.ref, aggregate.version + 1, limit)):
            if until.at is not None and event.time > until.at:
                break
            aggregate.replay(event)
            last = event
        return aggregate, last

    def _remember(self, aggregate: Aggregate, event_id: UUID, *, since: int) -> None:
        """Cache the state; store it where a multiple of ``snapshot_every`` lies after ``since``."""
        try:
            state = aggregate.encode()
        except (OverflowError, TypeError, ValueError):
            # Only time is lost, every time: it has a value that msgpack does not know.
            logger.warning("the state of %s cannot be kept", aggregate.ref, exc_info=True)
            self._cache.forget(aggregate.ref)
            return
        snapshot = Snapshot(aggregate.ref, aggregate.version, event_id, aggregate.shape, state)
        self._cache.save(snapshot)
        every = self._snapshot_every
        if self._snapshots is None or aggregate.version // every <= since // every:
            return
        try:
            self._snapshots.save(snapshot)
        except StoreError:
            # Only time is lost: the events are stored, and the next snapshot will do.
            logger.warning("could not store a snapshot of %s", aggregate.ref, exc_info=True)


def _decoded(cls: type[A], snapshot: Snapshot) -> A | None:
    """The aggregate as it was at a snapshot; ``None`` where that does not fit the class."""
    try:
        return cls.decode(snapshot.state)
    except msgspec.DecodeError as error:
        # Only time is lost, every time: an applier gives a field a value of another type.
        logger.warning(
            "the state of %s does not fit %s: %s", snapshot.aggregate, cls.__qualname__, error
        )
        return None


class _Bounds(msgspec.Struct, frozen=True):
    """Up to where to replay an aggregate."""

    version: int | None
    at: datetime | None
    position: int | None

    @property
    def now(self) -> bool:
        return self.version is None and self.at is None and self.position is None

    def query(self, ref: AggregateRef, first: int, limit: int | None = None) -> Query:
        # Not by time: a clock set back must not leave a hole in the versions.
        return Query(refs=[ref], versions=(first, self.version), to=self.position, limit=limit)


class _Loaded(NamedTuple, Generic[A]):
    aggregate: A
    last: Event[EventData] | None
    since: int
    """The version of the snapshot that it was loaded from, 0 without one."""
