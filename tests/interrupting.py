"""Ctrl-C at any moment: in the main thread, which Python delivers it to."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress


def press_ctrl_c_during(work: Callable[[], object], *, within: float = 0.005) -> None:
    """Do a piece of work again and again until Ctrl-C, which comes within so many seconds.

    For the main thread, and a test that has the fixture ``ctrl_c``.
    """

    def press() -> None:
        time.sleep(random.uniform(0, within))
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    with suppress(KeyboardInterrupt):
        threading.Thread(target=press).start()
        while True:
            work()
