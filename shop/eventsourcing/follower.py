"""What follows the log: the models of a projection, or the reactions of a workflow."""

from __future__ import annotations

from typing import Protocol

from shop.eventsourcing.fold import Progress
from shop.eventsourcing.model import Collection


class Follower(Protocol):
    """Who follows the log: a projection, or a workflow, which has no collections."""

    @property
    def name(self) -> str:
        """It names the checkpoint."""
        ...

    @property
    def event_names(self) -> frozenset[str]:
        """The wire names of the events that concern it."""
        ...

    @property
    def shape(self) -> str:
        """Another one than the checkpoint's means to begin anew."""
        ...

    @property
    def collections(self) -> tuple[Collection, ...]:
        """Where its models are kept."""
        ...


class Steps(Protocol):
    """How a follower moves along the log: as :class:`Fold` does, for projections."""

    def advance(self, progress: Progress, to: int) -> Progress:
        """See to some of the events up to the position ``to``."""
        ...

    def commit(self, progress: Progress) -> Progress:
        """Write a checkpoint for a position that was reached without one."""
        ...
