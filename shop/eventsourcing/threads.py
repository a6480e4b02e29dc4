"""Background threads: owned, named, stopped, joined, and never failing in silence."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class BackgroundThread:
    """A named daemon thread that runs one function until it is asked to stop.

    The function gets the event that says stop, and returns soon after it is set. What it raises
    ends the thread and is logged. All methods may be called by any thread.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[threading.Event], None],
        *,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._run = run
        self._on_stop = on_stop
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. Raises ``RuntimeError`` when it was started before."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask the thread to end, without waiting; idempotent.

        ``on_stop`` is called after the event is set, to end a wait on something else.
        """
        self._stopping.set()
        if self._on_stop is not None:
            self._on_stop()

    def close(self, timeout: float) -> bool:
        """Ask the thread to end and wait for it, at most ``timeout`` seconds; idempotent.

        Returns whether it ended; a straggler is logged, and ends with the process.
        """
        self.stop()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        if self._thread.is_alive():
            logger.warning("thread %s did not end in time", self.name)
            return False
        return True

    def _guarded(self) -> None:
        try:
            self._run(self._stopping)
        except BaseException:  # the last frame of the thread: nobody else could see it
            logger.exception("thread %s failed", self.name)
