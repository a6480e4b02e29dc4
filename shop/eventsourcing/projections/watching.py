"""Read models that other processes keep up to date."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from shop.eventsourcing.buses.bus import EventBus
from shop.eventsourcing.following.runner import FollowerState, FollowerStatus
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.projections.projection import Projection
from shop.eventsourcing.stores.store import EventStore, Query

_SOON = 0.005
"""Seconds from one look at the checkpoint to the next, right after an announcement."""
_SELDOM = 0.5
"""Seconds from one look to the next at most, when nothing is announced for long."""


class ModelProgress(Protocol):
    """How far the models of a projection have come, in this process or another. Thread-safe."""

    @property
    def projection(self) -> Projection:
        """The projection."""
        ...

    @property
    def position(self) -> int:
        """The position that the models have reached. Read it before the models, not after."""
        ...

    @property
    def committed(self) -> int:
        """The position of the stored checkpoint, as last seen.

        Models that are read at an earlier one were begun anew by another program.
        """
        ...

    def status(self) -> FollowerStatus:
        """How the projection is doing."""
        ...

    def wait_for(self, position: int, timeout: float) -> bool:
        """Wait until the models have reached a position, at most ``timeout`` seconds.

        Returns whether they have.
        """
        ...

    def end_waits(self) -> None:
        """End every :meth:`wait_for` that is under way, and let none wait any more."""
        ...


class ModelWatch:
    """Watches the models of a projection that runs in other processes: a :class:`ModelProgress`.

    It looks at the checkpoint when somebody waits for it, and owns no thread.
    """

    def __init__(
        self, projection: Projection, events: EventStore, models: ModelStore, bus: EventBus
    ) -> None:
        self._projection = projection
        self._events = events
        self._models = models
        self._bus = bus
        self._seen = (0, 0)
        self._ended = threading.Event()

    @property
    def projection(self) -> Projection:
        """As :attr:`ModelProgress.projection`."""
        return self._projection

    @property
    def position(self) -> int:
        """As :attr:`ModelProgress.position`, as of the last look at the checkpoint."""
        return self._seen[1]

    @property
    def committed(self) -> int:
        """As :attr:`ModelProgress.committed`, as of the last look at the checkpoint."""
        return self._seen[0]

    def status(self) -> FollowerStatus:
        """As :meth:`ModelProgress.status`; raises what the stores raise."""
        self._look(0)
        return FollowerStatus(
            self._projection.name, FollowerState.ELSEWHERE, self.position, current=True
        )

    def wait_for(self, position: int, timeout: float) -> bool:
        """As :meth:`ModelProgress.wait_for`.

        Models reach an event soon after it is announced: so looks at the checkpoint follow each
        other closely after an announcement, and then ever less often.
        """
        until = time.monotonic() + timeout
        if self._look(position):
            return True
        pause = _SOON
        with self._bus.subscribe(capacity=1) as bell:
            while (left := until - time.monotonic()) > 0:
                if self._ended.wait(min(_SOON, left)):
                    return False
                pause = _SOON if bell.take(min(pause, left)) else min(2 * pause, _SELDOM)
                if self._look(position):
                    return True
        return False

    def end_waits(self) -> None:
        """As :meth:`ModelProgress.end_waits`; waits end within half a second."""
        self._ended.set()

    def _look(self, wanted: int) -> bool:
        """Look at the checkpoint; whether the models have reached the position ``wanted``.

        Also true when no event up to ``wanted`` concerns the projection, before the checkpoint
        moves.
        """
        checkpoint = self._models.checkpoint(self._projection.name)
        committed = reached = checkpoint.position if checkpoint else 0
        if checkpoint is not None and reached < wanted <= self._events.head():
            lacking = Query(names=self._projection.event_names, after=committed, to=wanted, limit=1)
            if next(self._events.read(lacking), None) is None:
                reached = wanted
        self._seen = (committed, reached)
        return reached >= wanted
