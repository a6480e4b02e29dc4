"""The shop, assembled: its parts, their start, their end, and how they are doing."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, Self

import msgspec
from prometheus_client import CollectorRegistry

from shop.eventsourcing import (
    Aggregates,
    BusStatus,
    CommandDispatcher,
    CommandWorker,
    EventBus,
    EventStore,
    FollowerState,
    FollowerStatus,
    ModelProgress,
    ModelReader,
    ModelStore,
    NoWorkerError,
    ProjectionRunner,
    Query,
    StoreError,
    WorkflowEntry,
    WorkflowList,
    WorkflowRunner,
    WorkflowRunnerStatus,
    WorkflowStatus,
)
from shop.opening import Opening

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 6.0
"""How long the threads have to end, from ``begin_shutdown`` on."""
MIN_CLOSE_SECONDS = 1.0
"""How long they have from ``close`` on at least."""
MAX_LAG_SECONDS = 10.0
"""How late the read models that other processes keep may be."""


class Health(msgspec.Struct, frozen=True):
    """Whether the shop can do its work.

    It can unless there are ``problems``; what makes it ``degraded`` does not keep it from its work.
    """

    head: int | None
    """The event store's last position; ``None`` when it cannot be reached."""
    projections: tuple[FollowerStatus, ...]
    workflows: tuple[WorkflowRunnerStatus, ...]
    parked: Mapping[str, int] | None
    """How many instances of each workflow are parked; ``None`` when that cannot be read."""
    problems: tuple[str, ...]
    """A line for each thing that keeps it from its work."""
    degraded: tuple[str, ...] = ()
    """A line for each thing that does not: the bus is away, no worker answers, the read models that
    other processes keep are late, or a workflow is parked and waits for somebody to look at it."""

    @property
    def ready(self) -> bool:
        """Whether it can do its work."""
        return not self.problems


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
    watched_workflows: Sequence[str] = ()
    """The names of the workflows that run in other processes."""


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
        payment_deadline: float,
        metrics: CollectorRegistry,
        opening: Opening,
        on_close: Sequence[Callable[[], None]],
    ) -> None:
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
        self._workflow_names = (*self.workflows, *duties.watched_workflows)
        self.payment_deadline = payment_deadline
        """Seconds from placing an order to its cancellation when it is not paid."""
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
        """The read models of a projection."""
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

    def health(self) -> Health:
        """Look at the store and at every thread."""
        projections = [runner.status() for runner in self.projections.values()]
        workflows = [runner.status() for runner in self.workflows.values()]
        problems = [problem for status in projections for problem in _problems(status)]
        problems += [problem for status in workflows for problem in _workflow_problems(status)]
        degraded = [f"event bus: {s.problem}" for s in self.bus_statuses() if s.problem]
        head = parked = None
        try:
            self.check_open()
            head = self.store.head()
            projections = [progress.status() for progress in self.progress.values()]
            parked = self._parked()
        except StoreError as error:
            problems.append(f"stores: {error}")
        else:
            degraded += self._left_undone(projections, parked)
        if self.ending:
            problems.append("the shop is stopping")
        return Health(
            head=head,
            projections=tuple(projections),
            workflows=tuple(workflows),
            parked=parked,
            problems=tuple(problems),
            degraded=tuple(degraded),
        )

    def _left_undone(
        self, projections: Iterable[FollowerStatus], parked: Mapping[str, int]
    ) -> Iterator[str]:
        """What others leave undone: the workers, or the people who look after parked workflows."""
        try:
            yield from self._late(projections)
            self.commands.check()
        except (NoWorkerError, StoreError) as error:
            yield str(error)
        for name, count in parked.items():
            if count:
                yield f"workflow {name}: {count} parked, see /workflows?status=parked"

    def _late(self, statuses: Iterable[FollowerStatus]) -> Iterator[str]:
        """Which read models that other processes keep are late; only the logs there say why."""
        for status in statuses:
            if status.state is FollowerState.ELSEWHERE:
                lag = self.lag_seconds(status.name, status.position)
                if lag > MAX_LAG_SECONDS:
                    yield (
                        f"projection {status.name} lacks an event that is {lag:.0f} s old: the"
                        " workers are busy, down or failing, see their logs"
                    )

    def _parked(self) -> Mapping[str, int]:
        counts = Counter(entry.workflow for entry in self.list_workflows(WorkflowStatus.PARKED))
        return {name: counts[name] for name in self._workflow_names}

    def bus_statuses(self) -> list[BusStatus]:
        """How the bus is doing, and what works with it."""
        services = [service.status() for service in self._services]
        return [self.bus.status(), *services, self.commands.status()]

    def list_workflows(self, status: WorkflowStatus | None = None) -> Iterator[WorkflowEntry]:
        """All instances of workflows, oldest first, or those with a status: page by page."""
        equal = {} if status is None else {"status": status}
        return self.reader(WorkflowList.name).all(WorkflowEntry, **equal)

    def lag_seconds(self, projection: str, position: int) -> float:
        """The age of the oldest event that models at a position lack, 0 without one.

        Raises what the store raises.
        """
        names = self.progress[projection].projection.event_names
        lacking = next(self.store.read(Query(names=names, after=position, limit=1)), None)
        if lacking is None:
            return 0.0
        return max(0.0, (datetime.now(UTC) - lacking.time).total_seconds())


def _problems(status: FollowerStatus) -> list[str]:
    if status.failure is not None:
        failure = status.failure
        where = f" on event {failure.event_id} at {failure.position}" if failure.event_id else ""
        return [f"projection {status.name} failed{where}: {failure.error}"]
    if status.state is FollowerState.STARTING:
        return [f"projection {status.name} is catching up, at position {status.position}"]
    if status.state in {FollowerState.STOPPED, FollowerState.PAUSED}:
        return [f"projection {status.name} is {status.state}"]
    return []


def _workflow_problems(status: WorkflowRunnerStatus) -> list[str]:
    """What keeps a workflow from working. One that is catching up works: it is late at most."""
    name = status.reactions.name
    reactions, timers = status.reactions, status.timers
    problems = []
    for thread, state, failure in (
        (f"workflow {name}", reactions.state, reactions.failure),
        (f"the timers of {name}", timers.state, timers.failure),
    ):
        if failure is not None:
            problems.append(f"{thread} failed: {failure.error}")
        elif state is FollowerState.STOPPED:
            problems.append(f"{thread} stopped")
    return problems
