"""Changing several aggregates in one atomic commit, and making many such commits at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple, TypeVar
from uuid import UUID

from shop.eventsourcing.aggregates.aggregate import Aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.errors import AggregateNotFoundError, EventSourcingError, StaleVersionError
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, Metadata
from shop.eventsourcing.stores.store import Commit, NewCommit, sole

A = TypeVar("A", bound=Aggregate)

_MOST_MISSED = 200
"""How many aggregates one handler may miss: a loop that ends at one that always exists must end."""


class Loading(Enum):
    """Where a unit of work takes aggregates from."""

    CURRENT = auto()
    """From the store, with their newest events."""
    CACHED = auto()
    """From the cache, and from the store only those that are not cached."""
    CACHED_ONLY = auto()
    """From the cache. One that is not cached is taken not to exist, and noted in ``missed``."""


class UnitOfWork:
    """Several aggregates, changed together and saved in one atomic commit. For one thread.

    Each aggregate is loaded once. The commit fails with :class:`ConcurrencyError` when any of
    them, whether changed or only looked at, was changed by somebody else since: what was decided
    was decided on the current state.
    """

    def __init__(
        self,
        aggregates: Aggregates,
        *,
        loading: Loading = Loading.CURRENT,
        unused_id: UUID | None = None,
    ) -> None:
        """``unused_id`` was just made: unless they are to be current, aggregates with that id are
        taken not to exist.
        """
        self._aggregates = aggregates
        self._loading = loading
        self._unused_id = unused_id
        self.may_be_stale = False
        """Whether some aggregate was not loaded from the store: the commit finds out."""
        self.missed: list[tuple[type[Aggregate], UUID]] = []
        """The aggregates that were not in the cache, with :attr:`Loading.CACHED_ONLY`."""
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
            known = self._loaded[ref] = self._load(cls, id)
        if not isinstance(known, cls):
            raise TypeError(f"{ref} was loaded as {type(known).__qualname__} before")
        return known

    def _load(self, cls: type[A], id: UUID) -> A:
        if self._loading is Loading.CURRENT:
            return self._aggregates.load(cls, id)
        unused = self._unused_id is not None and id == self._unused_id
        found = cls(id) if unused else self._aggregates.cached(cls, id)
        if found is None and self._loading is Loading.CACHED:
            return self._aggregates.load(cls, id)
        if found is None:
            if len(self.missed) == _MOST_MISSED:
                raise EventSourcingError(f"more than {_MOST_MISSED} aggregates are not cached")
            self.missed.append((cls, id))
            found = cls(id)
        self.may_be_stale = True
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
        commit = sole(self._aggregates.events.append_each([new]))
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
        """What :meth:`commit` would append, for a caller that appends it itself."""
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
        """Note the outcome of what was prepared."""
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

    Each is decided on cached aggregates; the append finds out where they were stale. Aggregates
    that are not cached are best loaded together before, so that many units of work take little
    more time than one.
    """

    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates
        self._drafts: list[tuple[UnitOfWork, NewCommit]] = []
        self._changed: set[AggregateRef] = set()
        self._ids: set[UUID] = set()

    def work(self, loading: Loading, *, unused_id: UUID | None = None) -> UnitOfWork:
        """A new unit of work, for a draft."""
        return UnitOfWork(self._aggregates, loading=loading, unused_id=unused_id)

    def add(self, draft: Draft) -> bool:
        """Take a draft in, to be appended with the others.

        Returns ``False`` and leaves it out if it loaded an aggregate that an earlier draft changes,
        or has the commit id of an earlier one. It can be decided once that one is stored. (To
        decide it on what is about to be stored would be wrong: an event of another process may
        take the very same version, and nobody would notice.)
        """
        work, commit_id, digest, metadata = draft
        if commit_id in self._ids or not self._changed.isdisjoint(work.loaded):
            return False
        new = work.prepare(commit_id=commit_id, digest=digest, metadata=metadata)
        self._drafts.append((work, new))
        self._changed |= {event.aggregate for event in new.events}
        self._ids.add(commit_id)
        return True

    def commit(self) -> list[Commit | Exception]:
        """Append all drafts; return for each its commit or its error. Call it once.

        Those that failed may be tried again in new units of work.
        """
        outcomes = self._aggregates.events.append_each([new for _, new in self._drafts])
        for (work, new), outcome in zip(self._drafts, outcomes, strict=True):
            if isinstance(outcome, Commit):
                work.settle(new, outcome)
        return outcomes
