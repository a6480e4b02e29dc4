"""A clock that a test sets, and stores that go by it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from shop.eventsourcing.stores.delegating import DelegatingStore
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit


class Clock:
    """A clock that a test puts ahead. In between it stands still, or goes on as the real one."""

    def __init__(self, *, goes_on: bool) -> None:
        self._standing = None if goes_on else datetime.now(UTC)
        self._ahead = timedelta()

    def now(self) -> datetime:
        """The time by this clock."""
        return (self._standing or datetime.now(UTC)) + self._ahead

    def advance(self, seconds: float) -> None:
        """Put it ahead by so many seconds."""
        self._ahead += timedelta(seconds=seconds)

    def advance_to(self, time: datetime) -> None:
        """Put it ahead to that time, unless it is past it."""
        self._ahead += max(timedelta(), time - self.now())


class ClockStore(DelegatingStore):
    """A store that goes by a test's clock, and so do the times of its events.

    Stores may share a clock.
    """

    def __init__(self, store: EventStore, clock: Clock) -> None:
        super().__init__(store)
        self._clock = clock

    def now(self) -> datetime:
        """The time by the clock."""
        return self._clock.now()

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        """As the wrapped one, with events of now."""
        now = self.now()
        return super().append_each(
            [
                replace(commit, events=[replace(event, time=now) for event in commit.events])
                for commit in commits
            ]
        )
