"""Waiting for what happens in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable


def await_true(condition: Callable[[], object], *, within: float = 20) -> None:
    """Wait until a condition holds; fail when it does not within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition never came to hold"
        time.sleep(0.002)
