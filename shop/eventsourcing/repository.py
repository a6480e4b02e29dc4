"""Loading and saving aggregates, one at a time or several in one atomic commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregate import Aggregate
from shop.eventsourcing.append import sole
from shop.eventsourcing.errors import AggregateNotFoundError, StaleVersionError, StoreError
from shop.eventsourcing.event import AggregateRef, Event, EventData, Metadata
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.snapshot import Snapshot, SnapshotCache, SnapshotStore
from shop.eventsourcing.store import Commit, EventStore, NewCommit, Query

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=Aggregate)


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
        self._store = store
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

        At version 0 when nothing has happened to it by then. Several bounds all apply.
        """
        ref = AggregateRef(cls.kind, id)
        until = _Bounds(version, at, position)
        # Not from a snapshot where a time bounds: with a clock set back, one of the events that
        # it has passed may be later than one after it.
        cached = self._cache.load(ref) if at is None else None
        loaded = self._from_snapshot(cls, cached, until)
        if loaded is None and cached is not None and until.now:
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

    def repository(self, cls: type[A]) -> Repository[A]:
        """The typed repository of one kind of aggregate."""
        return Repository(self, cls)

    def work(self, *, trust: bool = False, made: UUID | None = None) -> UnitOfWork:
        """A new unit of work.

        With ``trust`` it takes aggregates from the cache without looking for newer events, and
        does not look for those with the id ``made``, which was just made.
        """
        return UnitOfWork(self, self._store, trust=trust, made=made)

    def pipeline(self) -> Pipeline:
        """A new pipeline."""
        return Pipeline(self, self._store)

    def last_seen(self, cls: type[A], id: UUID) -> A | None:
        """The aggregate as this process saw it last; ``None`` when it is not in the cache.

        There may be newer events. For decisions that are checked when they are committed.
        """
        cached = self._cache.load(AggregateRef(cls.kind, id))
        return cls.decode(cached.state) if cached and cached.shape == cls.shape else None

    def preload(self, cls: type[A], ids: Iterable[UUID]) -> None:
        """Have those that are not in the cache come there, by one look into the store.

        For units of work that trust. Those with many events are left out: a snapshot, if there is
        one, makes less of them.
        """
        all_refs = (AggregateRef(cls.kind, id) for id in ids)
        refs = [ref for ref in all_refs if self._cache.load(ref) is None]
        if not refs:
            return
        found: dict[AggregateRef, tuple[A, Event[EventData]]] = {}
        for event in self._store.read(Query(refs=refs, versions=(1, self._snapshot_every))):
            ref = event.aggregate
            aggregate = found[ref][0] if ref in found else cls(ref.id)
            aggregate.replay(event)
            found[ref] = aggregate, event
        for aggregate, last in found.values():
            if aggregate.version < self._snapshot_every:
                self._remember(aggregate, last.id, since=0)

    def saved(self, aggregate: Aggregate, last: Event[EventData], stored_version: int) -> None:
        """Take note of an aggregate that was just saved, ``last`` being its newest event."""
        self._remember(aggregate, last.id, since=stored_version)

    def _from_snapshot(
        self, cls: type[A], snapshot: Snapshot | None, until: _Bounds
    ) -> _Loaded[A] | None:
        """The aggregate from a snapshot on.

        ``None`` where that is of another shape, is too new for the bounds, or is not of this
        stream: the stream then has another event there, or none.
        """
        if snapshot is None or snapshot.shape != cls.shape:
            return None
        events = self._store.read(until.query(snapshot.aggregate, snapshot.version))
        last = next(events, None)
        if last is None or last.id != snapshot.event_id:
            return None
        aggregate = cls.decode(snapshot.state)
        for last in events:
            aggregate.replay(last)
        return _Loaded(aggregate, last, snapshot.version)

    def _replay(
        self, aggregate: A, until: _Bounds, *, limit: int | None = None
    ) -> tuple[A, Event[EventData] | None]:
        """Replay what comes next on the aggregate; return it with the last event of that."""
        last = None
        for event in self._store.read(until.query(aggregate.ref, aggregate.version + 1, limit)):
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


class UnitOfWork:
    """Several aggregates, changed together and saved in one atomic commit. For one thread.

    Each aggregate is loaded once. The commit fails with :class:`ConcurrencyError` when any of
    them, whether changed or only looked at, was changed by somebody else since: what was decided
    was decided on the current state.
    """

    def __init__(
        self,
        aggregates: Aggregates,
        store: EventStore,
        *,
        trust: bool = False,
        made: UUID | None = None,
    ) -> None:
        self._aggregates = aggregates
        self._store = store
        self._trust = trust
        self._made = made
        self.trusted = False
        """Whether some aggregate was taken as last seen, or as not existing, without a look."""
        self._loaded: dict[AggregateRef, Aggregate] = {}
        self.events: list[Event[EventData]] = []
        """What the commit stored, with positions."""

    def __contains__(self, ref: AggregateRef) -> bool:
        """Whether the aggregate was loaded."""
        return ref in self._loaded

    def find(self, cls: type[A], id: UUID) -> A:
        """The aggregate, at version 0 when nothing has happened to it yet."""
        ref = AggregateRef(cls.kind, id)
        known = self._loaded.get(ref)
        if known is None:
            known = self._loaded[ref] = self._on_trust(cls, id) or self._aggregates.load(cls, id)
        if not isinstance(known, cls):
            raise TypeError(f"{ref} was loaded as {type(known).__qualname__} before")
        return known

    def _on_trust(self, cls: type[A], id: UUID) -> A | None:
        if not self._trust:
            return None
        found = cls(id) if id == self._made else self._aggregates.last_seen(cls, id)
        self.trusted = self.trusted or found is not None
        return found

    def get(self, cls: type[A], id: UUID) -> A:
        """The aggregate. Raises :class:`AggregateNotFoundError` when it does not exist."""
        found = self.find(cls, id)
        if not found.exists:
            raise AggregateNotFoundError(found.ref)
        return found

    def add(self, aggregate: Aggregate) -> None:
        """Take in an aggregate that was loaded elsewhere, with the changes recorded on it."""
        if self._loaded.setdefault(aggregate.ref, aggregate) is not aggregate:
            raise ValueError(f"{aggregate.ref} is in this unit of work already")

    def version(self, ref: AggregateRef, expected: int | None = None) -> int:
        """The version of a loaded aggregate, with what was recorded on it.

        Raises :class:`StaleVersionError` when it was loaded at another version than expected, and
        ``KeyError`` when it was not loaded.
        """
        aggregate = self._loaded[ref]
        if expected is not None and aggregate.stored_version != expected:
            raise StaleVersionError(ref, expected, aggregate.stored_version)
        return aggregate.version

    def commit(
        self,
        *,
        commit_id: UUID | None = None,
        digest: bytes | None = None,
        metadata: Metadata | Mapping[AggregateRef, Metadata] | None = None,
    ) -> Commit:
        """Store all recorded changes at once and return the commit. Call it once.

        ``metadata`` is that of all events, or is given for those of each aggregate.

        Raises what :meth:`EventStore.append` raises. A replayed commit stores nothing and leaves
        ``events`` empty.
        """
        new = self.prepare(commit_id=commit_id, digest=digest, metadata=metadata)
        commit = sole(self._store.append_each([new]))
        self.settle(new, commit)
        return commit

    @property
    def loaded(self) -> Collection[AggregateRef]:
        """The aggregates that it loaded."""
        return self._loaded.keys()

    def prepare(
        self,
        *,
        commit_id: UUID | None = None,
        digest: bytes | None = None,
        metadata: Metadata | Mapping[AggregateRef, Metadata] | None = None,
    ) -> NewCommit:
        """What :meth:`commit` is to append, for whoever does that in its place."""
        now = datetime.now(UTC)
        events: list[Event[EventData]] = []
        guards: dict[AggregateRef, int] = {}
        for ref, aggregate in self._loaded.items():
            guards[ref] = aggregate.stored_version
            why = metadata.get(ref) if isinstance(metadata, Mapping) else metadata
            for version, data in enumerate(aggregate.changes, aggregate.stored_version + 1):
                events.append(Event.new(ref, version=version, data=data, metadata=why, time=now))
        return NewCommit(events, commit_id, digest, guards)

    def settle(self, new: NewCommit, commit: Commit) -> None:
        """Take note of what became of what was prepared."""
        if commit.replayed:
            return
        self.events = [event.at(commit.first + i) for i, event in enumerate(new.events)]
        last = {event.aggregate: event for event in self.events}
        for ref, event in last.items():
            aggregate = self._loaded[ref]
            stored_version = aggregate.stored_version
            aggregate.changes.clear()
            self._aggregates.saved(aggregate, event, stored_version)


class Draft(NamedTuple):
    """A unit of work, and what its commit is to be; see :meth:`UnitOfWork.commit`."""

    work: UnitOfWork
    commit_id: UUID
    digest: bytes
    metadata: Metadata


class Pipeline:
    """Units of work that are appended together, each as a commit of its own. For one thread.

    Each is decided on aggregates as they were last seen. Nothing is looked up for that, so that
    many take little more than one; the append finds out where it was wrong.
    """

    def __init__(self, aggregates: Aggregates, store: EventStore) -> None:
        self._aggregates = aggregates
        self._store = store
        self._drafts: list[tuple[UnitOfWork, NewCommit]] = []
        self._changed: set[AggregateRef] = set()

    def work(self, *, made: UUID | None = None) -> UnitOfWork:
        """A new unit of work, for a draft."""
        return self._aggregates.work(trust=True, made=made)

    def add(self, draft: Draft) -> bool:
        """Have a draft appended with the others.

        Returns ``False``, and leaves it out, where it concerns what one before it changes: it can
        be decided when that is stored. (To decide it on what is about to be stored would not do:
        another process's event may come to that very version, and nobody would notice.)
        """
        work, commit_id, digest, metadata = draft
        if not self._changed.isdisjoint(work.loaded):
            return False
        new = work.prepare(commit_id=commit_id, digest=digest, metadata=metadata)
        self._drafts.append((work, new))
        self._changed |= {event.aggregate for event in new.events}
        return True

    def commit(self) -> list[Commit | Exception]:
        """Append all that was added; return for each its commit or its error. Call it once.

        Those that failed may be tried again, in units of work of their own.
        """
        outcomes = self._store.append_each([new for _, new in self._drafts])
        for (work, new), outcome in zip(self._drafts, outcomes, strict=True):
            if isinstance(outcome, Commit):
                work.settle(new, outcome)
        return outcomes


class Repository(Generic[A]):
    """Aggregates of one kind: get, change, save. Thread-safe."""

    def __init__(self, aggregates: Aggregates, cls: type[A]) -> None:
        self._aggregates = aggregates
        self._cls = cls

    def get(self, id: UUID, *, version: int | None = None, at: datetime | None = None) -> A:
        """The aggregate as it stands, or as it stood at a version (exactly) or at a time.

        Raises :class:`AggregateNotFoundError` when it does not exist, or did not by then.
        """
        found = self._aggregates.load(self._cls, id, version=version, at=at)
        if not found.exists or (version is not None and at is None and found.version != version):
            raise AggregateNotFoundError(found.ref)
        return found

    def save(self, aggregate: A) -> Commit:
        """Store what was recorded on the aggregate.

        Raises :class:`ConcurrencyError` when it was changed by somebody else since it was loaded.
        """
        work = self._aggregates.work()
        work.add(aggregate)
        return work.commit()

    def use(self, id: UUID, change: Callable[[A], None], *, timeout: float = 5.0) -> A:
        """Load the aggregate (at version 0 if new), change it, save it; return it saved.

        A conflict repeats all three, for at most ``timeout`` seconds; then the last
        :class:`ConcurrencyError` is raised. ``change`` may thus be called more than once.
        """
        retry = ConflictRetry(timeout=timeout)
        for attempt in retry:
            with attempt:
                aggregate = self._changed(id, change, trust=retry.attempts == 1)
                if aggregate.changes:
                    self.save(aggregate)
        return aggregate

    def _changed(self, id: UUID, change: Callable[[A], None], *, trust: bool) -> A:
        """The aggregate with the change recorded.

        ``trust`` takes it as last seen, since saving finds out where that is wrong. When there is
        nothing to save, it is looked at again.
        """
        seen = self._aggregates.last_seen(self._cls, id) if trust else None
        aggregate = self._aggregates.load(self._cls, id) if seen is None else seen
        try:
            change(aggregate)
        except Exception:
            if seen is None:
                raise
            return self._changed(id, change, trust=False)
        if seen is not None and not aggregate.changes:
            return self._changed(id, change, trust=False)
        return aggregate
