"""A process that projects and dies at a chosen moment, as by the power cord.

``python -m tests.eventsourcing.dying_projector URL MOMENT POSITION``: at the first event, or the
first commit, at or behind that position.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from shop.eventsourcing import Aggregates, Event, EventData
from shop.eventsourcing.following.follower import Progress
from shop.eventsourcing.following.runner import LogRunner
from shop.eventsourcing.models.model_store import Checkpoint, ModelStore, StoredModel
from shop.eventsourcing.models.session import ModelSession
from shop.eventsourcing.projections.fold import Fold
from tests.eventsourcing.bank import Balances
from tests.eventsourcing.conftest import Stores


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingBalances(Balances):
    last_position = sys.maxsize

    def apply(self, event: Event[EventData], models: ModelSession, past: Aggregates) -> None:
        if event.position >= self.last_position:
            die()
        super().apply(event, models, past)


def let_die(store: ModelStore, *, before: int = sys.maxsize, after: int = sys.maxsize) -> None:
    """Have the process die at a commit that reaches one of these positions."""
    commit = store.commit

    def dying(
        expected: Checkpoint | None, checkpoint: Checkpoint, models: Sequence[StoredModel] = ()
    ) -> None:
        if checkpoint.position >= before:
            die()
        commit(expected, checkpoint, models)
        if checkpoint.position >= after:
            die()

    store.commit = dying  # type: ignore[method-assign]  # of this one, whatever its class


class SmallSteps(Fold):
    """So that there are commits to die between."""

    def advance(self, progress: Progress, to: int) -> Progress:
        return super().advance(progress, min(to, progress.position + 10))


def main(url: str, moment: str, position: str) -> None:
    stores = Stores.at(url)
    projection = DyingBalances()
    match moment:
        case "in-a-handler":
            projection.last_position = int(position)
        case "before-a-commit":
            let_die(stores.models, before=int(position))
        case "after-a-commit":
            let_die(stores.models, after=int(position))
    steps = SmallSteps(projection, stores.events, stores.models)
    runner = LogRunner(steps, stores.events, stores.models, stores.bus, kind="projection")
    runner.start()
    threading.Event().wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
