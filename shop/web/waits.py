"""Requests that wait, without taking all the threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

LONGEST = 30.0
SHORT = 0.1


class Waits:
    """Bounds how many requests wait for long. Thread-safe. Times are in seconds.

    Everybody may wait a short time, which is enough where all is well: read models follow within
    milliseconds. At most ``most_long`` wait longer than that at any time.
    """

    def __init__(self, most_long: int) -> None:
        self._long = threading.BoundedSemaphore(most_long) if most_long else None

    def wait(self, wait_for: Callable[[float], bool], seconds: float) -> bool:
        """Call a function that waits at most the seconds given, and tells whether that was enough.

        At most ``seconds``, at most 30, and no longer than a short time while too many others wait.
        Returns what the function did.
        """
        if wait_for(min(seconds, SHORT)):
            return True
        left = min(seconds, LONGEST) - SHORT
        if left <= 0 or self._long is None or not self._long.acquire(blocking=False):
            return False
        try:
            return wait_for(left)
        finally:
            self._long.release()
