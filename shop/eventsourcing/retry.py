"""Waiting between attempts: exponential backoff with equal jitter.

See Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): a wait that is
half of a doubling bound and half random spreads out the callers that failed together.
"""

from __future__ import annotations

import random
import time

from shop.eventsourcing.errors import ConcurrencyError


class Backoff:
    """A growing series of random delays in seconds. Belongs to one thread."""

    def __init__(self, *, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self.attempts = 0

    def next_delay(self) -> float:
        """The delay before the next attempt: at most ``first``, doubled with every call."""
        bound = min(self._most, self._first * 2 ** min(self.attempts, 32))
        self.attempts += 1
        return random.uniform(bound / 2, bound)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self.attempts = 0


class ConflictRetry:
    """Iterates over the attempts of one optimistic change until its time is over.

    ``for attempt in ConflictRetry(timeout=5.0): with attempt: …`` runs the block again when it
    raises :class:`ConcurrencyError`, and lets the error out once ``timeout`` seconds have gone by.
    """

    def __init__(self, *, timeout: float) -> None:
        self._began = time.monotonic()
        self._timeout = timeout
        self._backoff = Backoff(first=0.001, most=0.05)
        self.attempts = 0
        self._done = False

    @property
    def elapsed(self) -> float:
        """Seconds since the first attempt."""
        return time.monotonic() - self._began

    def __iter__(self) -> ConflictRetry:
        return self

    def __next__(self) -> ConflictRetry:
        if self._done:
            raise StopIteration
        if self.attempts:
            time.sleep(self._backoff.next_delay())
        self.attempts += 1
        return self

    def __enter__(self) -> None:
        self._done = True

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, ConcurrencyError) and self.elapsed < self._timeout:
            self._done = False
            return True
        return False
