"""What all tests share."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds; the test fails when it does not within ten seconds."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "the condition never came to hold"
            time.sleep(0.002)

    return wait
