"""Changing several aggregates in one atomic commit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TypeVar
from uuid import UUID

from shop.eventsourcing.aggregates.aggregate import Aggregate, ref_of
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
        self.in_handler = False
        """Whether a command's handler has it, and the command bus is to commit it."""

    def __contains__(self, ref: AggregateRef) -> bool:
        """Whether the aggregate was loaded."""
        return ref in self._loaded

    def find(self, cls: type[A], id: UUID) -> A:
        """The aggregate, at version 0 when nothing has happened to it yet."""
        ref = ref_of(cls, id)
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

    def version(self, ref: AggregateRef) -> int:
        """The version of a loaded aggregate, with what was recorded on it.

        Raises ``KeyError`` when it was not loaded.
        """
        return self._loaded[ref].version

    def check_version(self, ref: AggregateRef, expected: int | None) -> None:
        """Raise :class:`StaleVersionError` when an aggregate was loaded at another version.

        Any version will do if none is expected. Raises ``KeyError`` when it was not loaded.
        """
        loaded = self._loaded[ref].stored_version
        if expected is not None and loaded != expected:
            raise StaleVersionError(ref, expected, loaded)

    def commit(
        self,
        *,
        commit_id: UUID | None = None,
        digest: bytes | None = None,
        metadata: Metadata | Mapping[AggregateRef, Metadata] | None = None,
    ) -> Commit:
        """Store all recorded changes at once and return the commit. Call it once.

        ``metadata`` is that of all events, or is given for those of each aggregate.

        Raises what :meth:`EventStore.append` raises, and ``ValueError`` in a command's handler. A
        replayed commit stores nothing and leaves ``events`` empty.
        """
        if self.in_handler:
            raise ValueError("a handler does not commit: the command bus does when it has returned")
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
