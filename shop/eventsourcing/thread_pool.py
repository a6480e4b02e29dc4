"""A pool of daemon threads that share out work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from shop.eventsourcing.threads import BackgroundThread

Task = Callable[[], None]


class ThreadPool:
    """Owns ``count`` threads, which are started by the first work that needs them.

    They are daemons, so that one that hangs in a store does not keep the process from ending.
    :meth:`run` is for one thread at a time.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._threads: list[BackgroundThread] = []

    def run(self, tasks: Sequence[Task]) -> None:
        """Do all the tasks, some at the same time, and wait for the end of all of them.

        Raises what one of them raised; after that, no further ones are begun. The calling thread
        takes its share.
        """
        batch = _Batch(tasks)
        helpers = min(self._count, len(tasks) - 1)
        while len(self._threads) < helpers:
            thread = BackgroundThread(f"{self._name}-{len(self._threads) + 1}", self._help)
            thread.start()
            self._threads.append(thread)  # who did not come to start is not waited for
        for _ in range(helpers):
            self._batches.put(batch)
        batch.work()
        for _ in range(helpers):
            batch.left.acquire()
        if batch.errors:
            raise batch.errors[0]

    def stop(self) -> None:
        """Ask the threads to end after what they are at; idempotent."""
        for thread in self._threads:
            thread.stop()
            self._batches.put(None)

    def close(self, timeout: float) -> bool:
        """Stop; wait at most ``timeout`` seconds for each thread. Returns whether all ended."""
        self.stop()
        stragglers = [thread for thread in self._threads if not thread.close(timeout)]
        return not stragglers

    def _help(self, stopping: threading.Event) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                batch.work()
            finally:
                batch.left.release()


class _Batch:
    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = deque(tasks)
        self.errors: list[BaseException] = []
        self.left = threading.Semaphore(0)

    def work(self) -> None:
        """Do what nobody else has begun."""
        while not self.errors:
            try:
                task = self._tasks.popleft()
            except IndexError:
                return
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - raised by whoever waits for the batch
                self.errors.append(error)
