"""Requests that wait, without taking all the threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

MAX_SECONDS = 30.0
"""How long a long wait lasts at most, whatever was asked for."""
SHORT_SECONDS = 0.1
"""How long any request may wait."""


class Waits:
    """Bounds how many requests wait for long. Thread-safe. Times are in seconds.

    Any request may wait a short time, which is usually enough: read models follow within
    milliseconds. At most ``max_long`` requests wait longer than that at any time.
    """

    def __init__(self, max_long: int) -> None:
        self._long = threading.BoundedSemaphore(max_long) if max_long else None

    def wait(self, wait_for: Callable[[float], bool], seconds: float) -> bool:
        """Have ``wait_for`` wait, for at most ``seconds`` in all; return whether it had success.

        ``seconds`` count up to 30, or up to 0.1 while too many long waits run. ``wait_for`` is
        called once or twice, with the seconds to wait.
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
