"""The first use of the stores, which is repeated until their servers can be reached."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from shop.eventsourcing import StoreError, StoreUnavailableError
from shop.eventsourcing.retry import Backoff
from shop.eventsourcing.threads import BackgroundThread

logger = logging.getLogger(__name__)


class Opening:
    """Calls ``open`` at once, and again until it succeeds: a shop may start before its database.

    Raises what the first call raises, except for :class:`StoreUnavailableError`, which time may
    heal. Owns a thread from ``start`` to ``close``.
    """

    def __init__(self, open: Callable[[], None]) -> None:
        self._open = open
        self._then: Callable[[], None] = lambda: None
        self._thread = BackgroundThread("opening", self._repeat)
        self.problem: str | None = None
        """Why the stores could not be opened yet; ``None`` once they are."""
        try:
            open()
        except StoreUnavailableError as error:
            self._note(error)

    def start(self, then: Callable[[], None]) -> None:
        """Call ``then`` once the stores are open: now, or later and in another thread.

        If ``then`` raises :class:`StoreUnavailableError`, it is called again later; it must have
        done nothing yet when it raises.
        """
        self._then = then
        if self.problem is None:
            try:
                then()
            except StoreUnavailableError as error:
                self._note(error)
            else:
                return
        self._thread.start()

    def check(self) -> None:
        """Raise :class:`StoreUnavailableError` as long as the stores are not open."""
        if self.problem is not None:
            raise StoreUnavailableError(self.problem)

    def close(self, timeout: float) -> None:
        """Try no more; wait at most ``timeout`` seconds for a try under way. Idempotent."""
        self._thread.close(timeout)

    def _repeat(self, stopping: threading.Event) -> None:
        backoff = Backoff(first=0.1, most=2.0)
        while not stopping.wait(backoff.next_delay()):
            try:
                self._open()
                self._then()
            except Exception as error:  # noqa: BLE001 - no caller is there: the log and the health tell
                self._note(error)
            else:
                logger.info("the stores are open now")
                self.problem = None
                return

    def _note(self, error: Exception) -> None:
        expected = isinstance(error, StoreError)
        problem = f"not open yet: {error if expected else repr(error)}"
        if problem != self.problem:
            trace = None if expected else error
            logger.warning("%s; trying again until it is", problem, exc_info=trace)
        self.problem = problem
