"""The shop, assembled: its parts, their start, their end, and how they are doing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, Self

from prometheus_client import CollectorRegistry

from shop.application import Application
from shop.eventsourcing import (
    Aggregates,
    BusStatus,
    CommandDispatcher,
    CommandWorker,
    EventBus,
    EventStore,
    ModelProgress,
    ModelReader,
    ModelStore,
    ProjectionRunner,
    Query,
    WorkflowEntry,
    WorkflowList,
    WorkflowRunner,
    WorkflowStatus,
)
from shop.eventsourcing.suggestions import near_or_known
from shop.opening import Opening

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 6.0
"""How long the threads have to end, from ``begin_shutdown`` on."""
MIN_CLOSE_SECONDS = 1.0
"""How long they have from ``close`` on at least."""


class Service(Protocol):
    """A thread that works beside the projections, once the stores are open."""

    def start(self) -> None:
        """Start the thread. Once."""
        ...

    def stop(self) -> None:
        """Ask the thread to stop, without waiting for it."""
        ...

    def close(self, timeout: float) -> bool:
        """Stop it, waiting at most ``timeout`` seconds; whether it ended. Idempotent."""
        ...

    def status(self) -> BusStatus:
        """How it is doing."""
        ...


class Duties(NamedTuple):
    """What a process does of the shop's work itself, and what it watches other processes do."""

    commands: CommandDispatcher
    projections: Sequence[ProjectionRunner] = ()
    workflows: Sequence[WorkflowRunner] = ()
    worker: CommandWorker | None = None
    """What carries out the commands of other processes."""
    services: Sequence[Service] = ()
    watched: Sequence[ModelProgress] = ()
    """The progress of the read models that other processes keep."""


class Shop:
    """Everything that runs, in one object. Thread-safe, but for ``start`` and ``close``.

    It owns its threads and whatever ``on_close`` closes.
    """

    def __init__(
        self,
        duties: Duties,
        *,
        store: EventStore,
        models: ModelStore,
        bus: EventBus,
        aggregates: Aggregates,
        application: Application,
        metrics: CollectorRegistry,
        opening: Opening,
        on_close: Sequence[Callable[[], None]],
    ) -> None:
        self.application = application
        """What runs: the shop, or another one."""
        self.store = store
        self.models = models
        self.bus = bus
        self.commands = duties.commands
        self.aggregates = aggregates
        self.projections = {runner.name: runner for runner in duties.projections}
        """The projections that run in this process."""
        self.progress: dict[str, ModelProgress] = {
            progress.projection.name: progress
            for progress in (*duties.projections, *duties.watched)
        }
        """How far the read models are, those of projections elsewhere included."""
        self._worker = duties.worker
        self.workflows = {runner.name: runner for runner in duties.workflows}
        """The workflows that run in this process."""
        self.metrics = metrics
        self._opening = opening
        self._on_close = on_close
        self._services = duties.services
        self._ending = threading.Event()
        self._shutdown_began = 0.0
        self._closed = False

    def start(self) -> None:
        """Start the threads; those that need the stores, once these are open."""
        self._opening.start(self._start_threads)

    def close(self) -> None:
        """Stop the threads at a batch boundary, then close bus and stores; idempotent.

        It takes until ten seconds after :meth:`begin_shutdown` at most, which it calls itself where
        nobody has. Threads that need longer are logged and left behind.
        """
        if self._closed:
            return
        self._closed = True
        self.begin_shutdown()
        threads = self._threads()
        for thread in threads:
            thread.stop()
        until = max(self._shutdown_began + SHUTDOWN_SECONDS, time.monotonic() + MIN_CLOSE_SECONDS)
        for part in (self._opening, *([self._worker] if self._worker else []), *threads):
            part.close(max(0.0, until - time.monotonic()))
        for close in self._on_close:
            close()

    def _start_threads(self) -> None:
        logger.info("the log is at position %d", self.store.head())
        if self._worker is not None:
            self._worker.start()  # first, as it looks into the store, which may be away again
        for thread in self._threads():
            thread.start()

    def _threads(self) -> list[ProjectionRunner | WorkflowRunner | Service]:
        return [*self.workflows.values(), *self.projections.values(), *self._services]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def check_open(self) -> None:
        """Raise :class:`StoreUnavailableError` as long as the stores could not be opened."""
        self._opening.check()

    def reader(self, projection: str) -> ModelReader:
        """The read models of a projection. Raises ``LookupError`` for a name that is none's."""
        if projection not in self.progress:
            others = near_or_known(projection, self.progress)
            raise LookupError(f"there is no projection {projection!r}; {others}")
        return ModelReader(self.models, projection)

    @property
    def ending(self) -> bool:
        """Whether :meth:`begin_shutdown` or :meth:`close` was called: no new work is wanted."""
        return self._ending.is_set()

    def begin_shutdown(self) -> None:
        """End all waits for read models, take no more commands of others, and report as not ready.

        What is under way is still carried out, until ``close``. Any thread may call it; idempotent.
        """
        if not self._ending.is_set():
            self._shutdown_began = time.monotonic()
            self._ending.set()
        for progress in self.progress.values():
            progress.end_waits()
        if self._worker is not None:
            self._worker.stop()
        self.commands.stop()

    def wait_for(
        self, position: int, timeout: float, *, projections: Iterable[str] | None = None
    ) -> bool:
        """Wait until read models have reached a position, at most ``timeout`` seconds.

        Waits for those of the ``projections`` named, or for all. Returns whether they have.
        """
        until = time.monotonic() + timeout
        names = self.progress if projections is None else projections
        return all(
            self.progress[name].wait_for(position, max(0.0, until - time.monotonic()))
            for name in names
        )

    def wait_for_log(self, position: int, timeout: float) -> bool:
        """Wait until the log has reached a position, at most ``timeout`` seconds.

        Returns whether it has. An event of another process may be noticed a second late.
        """
        until = time.monotonic() + timeout
        with self.bus.subscribe(capacity=1) as bell:
            while self.store.head() < position:
                left = until - time.monotonic()
                if left <= 0 or self.ending:
                    return False
                bell.take(min(left, 1.0))
        return True

    def bus_statuses(self) -> list[BusStatus]:
        """How the bus is doing, and what works with it."""
        services = [service.status() for service in self._services]
        return [self.bus.status(), *services, self.commands.status()]

    def list_workflows(self, status: WorkflowStatus | None = None) -> Iterator[WorkflowEntry]:
        """All instances of workflows, oldest first, or those with a status: page by page."""
        equal = {} if status is None else {"status": status}
        return self.reader(WorkflowList.name).all(WorkflowEntry, **equal)

    def lag_seconds(self, names: Set[str], position: int) -> float:
        """The age of the oldest event of these names after a position, 0 without one.

        Raises what the store raises.
        """
        lacking = next(self.store.read(Query(names=names, after=position, limit=1)), None)
        if lacking is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - lacking.time).total_seconds())
