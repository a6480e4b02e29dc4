"""A process that runs a workflow on a SQLite file and dies at a chosen write, as by the power cord.

``python -m tests.eventsourcing.dying_workflow URL SECONDS NUMBER MOMENT``: with the store's clock
so many seconds ahead, ``before`` or ``after`` so many appends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from shop.backends.memory import MemoryEventBus
from shop.eventsourcing import (
    Aggregates,
    CommandBus,
    Commit,
    DelegatingStore,
    EventStore,
    ModelStore,
    NewCommit,
    ProjectionRunner,
    PublishingStore,
    Registry,
    Schedule,
    WorkflowList,
    WorkflowRunner,
)
from shop.stores import open_backend
from tests.eventsourcing.reminders import MODULES, Reminders

HASTY = Schedule(poll=0.01, pace=0.001)


class DyingStore(DelegatingStore):
    def __init__(self, store: EventStore, ahead: float, number: int, moment: str) -> None:
        super().__init__(store)
        self._ahead = timedelta(seconds=ahead)
        self._left = number
        self._moment = moment
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return super().now() + self._ahead

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        with self._lock:
            self._left -= 1
            last = self._left < 0
        if last and self._moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        outcomes = super().append_each(commits)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes


def run(
    events: EventStore, models: ModelStore, workflow: Reminders
) -> tuple[ProjectionRunner, WorkflowRunner, CommandBus]:
    """The runners of a workflow, not started yet, and the bus that they use."""
    bus = MemoryEventBus()
    published = PublishingStore(events, bus)
    aggregates = Aggregates(published)
    commands = CommandBus(published, aggregates, MODULES)
    listing = ProjectionRunner(WorkflowList(), published, models, bus, schedule=HASTY)
    runner = WorkflowRunner(
        workflow,
        events=published,
        models=models,
        bus=bus,
        aggregates=aggregates,
        commands=commands,
        listing=listing,
        schedule=HASTY,
    )
    return listing, runner, commands


def main(url: str, ahead: str, number: str, moment: str) -> None:
    backend = open_backend(url)
    registry = Registry(event for module in MODULES for event in module.events)
    store = DyingStore(backend.events(registry), float(ahead), int(number), moment)
    listing, runner, _ = run(store, backend.models, Reminders())
    listing.start()
    runner.start()
    threading.Event().wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
