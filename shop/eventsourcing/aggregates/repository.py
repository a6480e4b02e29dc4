"""Aggregates of one kind: loading, changing and saving one at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from shop.eventsourcing.aggregates.aggregate import Aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.unit_of_work import UnitOfWork
from shop.eventsourcing.errors import AggregateNotFoundError
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.stores.store import Commit

A = TypeVar("A", bound=Aggregate)


class Repository(Generic[A]):
    """Aggregates of one kind: get, change, save. Thread-safe."""

    def __init__(self, aggregates: Aggregates, cls: type[A]) -> None:
        self._aggregates = aggregates
        self._cls = cls

    def get(self, id: UUID, *, version: int | None = None, at: datetime | None = None) -> A:
        """The aggregate as it stands, or as it stood at a version (exactly) or at a time.

        Raises :class:`AggregateNotFoundError` when it does not exist, or did not by then, and
        ``ValueError`` for a time without a time zone.
        """
        found = self._aggregates.load(self._cls, id, version=version, at=at)
        if not found.exists or (version is not None and at is None and found.version != version):
            asked = f"version {version}" if version is not None else at.isoformat() if at else ""
            raise AggregateNotFoundError(found.ref, at=asked)
        return found

    def save(self, aggregate: A) -> Commit:
        """Store what was recorded on the aggregate.

        Raises :class:`ConcurrencyError` when it was changed by somebody else since it was loaded.
        """
        work = UnitOfWork(self._aggregates)
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
                aggregate = self._changed(id, change, cached=retry.attempts == 1)
                if aggregate.changes:
                    self.save(aggregate)
        return aggregate

    def _changed(self, id: UUID, change: Callable[[A], None], *, cached: bool) -> A:
        """The aggregate with the change recorded.

        With ``cached`` it may come from the cache: saving finds out if it was stale. If there is
        nothing to save, it is loaded and changed again.
        """
        seen = self._aggregates.cached(self._cls, id) if cached else None
        aggregate = self._aggregates.load(self._cls, id) if seen is None else seen
        try:
            change(aggregate)
        except Exception:
            if seen is None:
                raise
            return self._changed(id, change, cached=False)
        if seen is not None and not aggregate.changes:
            return self._changed(id, change, cached=False)
        return aggregate
