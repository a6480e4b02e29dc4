"""Threads that write on while a server suffers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from shop.eventsourcing import EventStore, StoreUnavailableError
from tests.conftest import Eventually
from tests.notebook import AnyEvent, note, positions, stream


class Writers:
    """Threads that append until they are told to stop, and know what was acknowledged.

    ``make`` makes the events of an append.
    """

    def __init__(
        self,
        store: EventStore,
        threads: int = 4,
        make: Callable[[], Sequence[AnyEvent]] = lambda: stream(note(), 2),
    ) -> None:
        self.store = store
        self.acknowledged: dict[UUID, int] = {}
        self.refused: StoreUnavailableError | None = None
        """What an append was refused with last."""
        self._make = make
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads

    def __enter__(self) -> Writers:
        self._running = [self._pool.submit(self._write) for _ in range(self._threads)]
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for running in self._running:
            running.result()

    def _write(self) -> None:
        while not self._stop.is_set():
            commit_id, events = uuid4(), self._make()
            while not self._stop.is_set():
                try:
                    commit = self.store.append(events, commit_id=commit_id)
                except StoreUnavailableError as error:
                    self.refused = error
                    self._stop.wait(0.02)
                    continue
                self.acknowledged[commit_id] = commit.first
                break

    def go_on(self, eventually: Eventually) -> None:
        """Wait until some more was acknowledged."""
        enough = len(self.acknowledged) + 20
        eventually(lambda: len(self.acknowledged) > enough)

    def check(self) -> None:
        """Everything acknowledged is there, whole, once and where it was said to be."""
        assert positions(self.store.read()) == list(range(1, self.store.head() + 1))
        stored = {commit.id: commit.first for commit in self.store.commits()}
        assert self.acknowledged.items() <= stored.items()
        commits = list(self.store.commits())
        assert len({commit.id for commit in commits}) == len(commits)
        assert sum(commit.size for commit in commits) == self.store.head()
