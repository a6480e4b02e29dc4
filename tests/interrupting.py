"""Ctrl-C at any moment: in the main thread, which Python delivers it to."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable


def press_ctrl_c_during(work: Callable[[], object], *, within: float = 0.005) -> None:
    """Do a piece of work again and again until Ctrl-C, which comes within so many seconds.

    For the main thread, and a test that has the fixture ``ctrl_c``.
    """
    main, interrupted = threading.get_ident(), threading.Event()

    def press() -> None:
        time.sleep(random.uniform(0, within))
        signal.pthread_kill(main, signal.SIGINT)
        while not interrupted.wait(1):  # a destructor has swallowed it
            signal.pthread_kill(main, signal.SIGINT)

    try:
        threading.Thread(target=press).start()
        while True:
            work()
    except KeyboardInterrupt:
        pass
    finally:
        interrupted.set()
