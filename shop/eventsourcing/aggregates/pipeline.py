"""Making many commits at once, each of a unit of work of its own."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.events.event import AggregateRef, Metadata
from shop.eventsourcing.stores.store import Commit, NewCommit

CACHE_ROUNDS = 4
"""How often the cache is filled for many units of work together before each loads for itself."""


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
