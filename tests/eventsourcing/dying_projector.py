"""A process that projects on a SQLite file and dies at a chosen moment, as by the power cord.

``python -m tests.eventsourcing.dying_projector FILE MOMENT POSITION``: at the first event, or the
first commit, at or behind that position.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from shop.backends.sqlite import Database, SqliteModelStore
from shop.eventsourcing import Event, EventData
from shop.eventsourcing.fold import Fold, Progress
from shop.eventsourcing.model import Checkpoint, ModelSession, StoredModel
from shop.eventsourcing.runner import ProjectionRunner
from tests.eventsourcing.bank import Balances
from tests.eventsourcing.conftest import on_sqlite


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingBalances(Balances):
    last_position = sys.maxsize

    def apply(self, event: Event[EventData], models: ModelSession) -> None:
        if event.position >= self.last_position:
            die()
        super().apply(event, models)


class DyingModelStore(SqliteModelStore):
    dies_before = dies_after = sys.maxsize

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        if checkpoint.position >= self.dies_before:
            die()
        super().commit(expected, checkpoint, models)
        if checkpoint.position >= self.dies_after:
            die()


class SmallSteps(Fold):
    """So that there are commits to die between."""

    def advance(self, progress: Progress, to: int) -> Progress:
        return super().advance(progress, min(to, progress.position + 10))


def main(path: str, moment: str, position: str) -> None:
    stores = on_sqlite(Path(path))
    projection = DyingBalances()
    models = DyingModelStore(Database(Path(path)))
    match moment:
        case "in-a-handler":
            projection.last_position = int(position)
        case "before-a-commit":
            models.dies_before = int(position)
        case "after-a-commit":
            models.dies_after = int(position)
    runner = ProjectionRunner(projection, stores.events, models, stores.bus)
    runner._fold = SmallSteps(projection, stores.events, models)  # a batch is fixed
    runner.start()
    threading.Event().wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
