"""Requests that wait, without taking all the threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

MAX_SECONDS = 30.0
SHORT_SECONDS = 0.1
"""How long everybody may wait."""


class Waits:
    """Bounds how many requests wait for long. Thread-safe. Times are in seconds.

    Everybody may wait a short time, which is usually enough: read models follow within
    milliseconds. At most ``max_long`` requests wait longer than that at any time.
    """

    def __init__(self, max_long: int) -> None:
        self._long = threading.BoundedSemaphore(max_long) if max_long else None

    def wait(self, wait_for: Callable[[float], bool], seconds: float) -> bool:
        """Call ``wait_for`` with at most ``seconds``, and return what it does.

        They are capped at 30, or at 0.1 while too many long waits run. ``wait_for`` is given the
        seconds to wait, and returns whether what it waits for came; it may be called twice.
        """
        if wait_for(min(seconds, SHORT_SECONDS)):
            return True
        left = min(seconds, MAX_SECONDS) - SHORT_SECONDS
        if left <= 0 or self._long is None or not self._long.acquire(blocking=False):
            return False
        try:
            return wait_for(left)
        finally:
            self._long.release()
