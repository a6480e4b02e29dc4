"""What is known to be on disk.

MongoDB shows a write before it is on disk, or with a majority of the replica set. A crash would
take it back, and another event come to its position. So whoever meets a commit that is not known to
be durable sees to it, before he tells of it or goes on behind it.
"""

from __future__ import annotations

import threading
from uuid import UUID

from shop.backends.mongodb.database import Database
from shop.eventsourcing.errors import StoreUnavailableError


class Durability:
    """How far a log is known to be on disk. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._reached = 0

    @property
    def reached(self) -> int:
        """All commits up to this position are known to be on disk."""
        return self._reached

    def note(self, position: int) -> None:
        """Note that all commits up to a position are on disk."""
        with self._lock:
            self._reached = max(self._reached, position)

    def forget(self) -> None:
        """Know nothing: this may be another log than before."""
        with self._lock:
            self._reached = 0

    def confirm(self, last: int, commit_id: UUID | str, *, always: bool = False) -> None:
        """See to it that a commit that was read, up to ``last``, is on disk, with all before it.

        A write that changes nothing waits for the writing of all that was there before it; it must
        meet the very commit that was read. Raises :class:`StoreUnavailableError` where that is
        there no longer. Nothing needs to be written where ``last`` is known to be on disk, but for
        a commit without events (``always``).
        """
        if last <= self._reached and not always:
            return
        with self._database.using("commits") as commits:
            met = commits.update_one({"commit": str(commit_id)}, {"$unset": {"nothing": 1}})
        if not met.matched_count:
            raise StoreUnavailableError(
                f"{self._database.where} was interrupted before it had written what was read"
            )
        self.note(last)
