"""The failures of a thread that tries again: kept for its status, logged, and waited after."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import OutcomeUnknownError, StoreUnavailableError
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.retry import Backoff

logger = logging.getLogger(__name__)


class Failure(msgspec.Struct, frozen=True):
    """Why a thread stands still. An event is named when it was its handler that failed."""

    error: str
    since: datetime
    attempts: int
    position: int | None = None
    event_id: UUID | None = None
    event_name: str | None = None


class Failures:
    """Keeps and logs what a thread fails on. For that thread; any other may read ``current``.

    ``who`` names the thread in messages. Pauses last at most ``longest`` seconds.
    """

    def __init__(self, who: str, *, longest: float) -> None:
        self._who = who
        self._backoff = Backoff(first=0.1, most=longest)
        self.current: Failure | None = None
        """What the last try failed on; ``None`` when it succeeded."""

    def add(
        self, error: Exception, *, cause: BaseException, event: Event[EventData] | None = None
    ) -> float:
        """Record a failed try. Returns how many seconds to wait before the next."""
        known = self.current
        self.current = Failure(
            error=f"{type(cause).__name__}: {cause}",
            since=known.since if known else datetime.now(UTC),
            attempts=known.attempts + 1 if known else 1,
            position=event.position if event else None,
            event_id=event.id if event else None,
            event_name=event.name if event else None,
        )
        # A server that is away is nobody's bug; for other failures, one traceback is enough.
        away = isinstance(error, StoreUnavailableError | OutcomeUnknownError)
        logger.error(
            "%s failed (attempt %d): %s",
            self._who,
            self.current.attempts,
            error,
            exc_info=None if known or away else error,
        )
        return self._backoff.next_delay()

    def end(self) -> None:
        """Record a try that succeeded."""
        if self.current is not None:
            logger.info("%s goes on", self._who)
        self.current = None
        self._backoff.reset()
