"""What follows the log: the models of a projection, or the reactions of a workflow."""

from __future__ import annotations

from typing import Protocol

import msgspec

from shop.eventsourcing.projections.model import Checkpoint, Collection, ModelStore


class Progress(msgspec.Struct, frozen=True):
    """How far a follower has come.

    ``committed`` is the checkpoint in the model store. ``position`` may lie beyond it, when no
    event in between concerned the follower.
    """

    committed: Checkpoint
    position: int


class Follower(Protocol):
    """Moves along the log, batch by batch, and does something about the events."""

    @property
    def name(self) -> str:
        """The name of its checkpoint."""
        ...

    @property
    def event_names(self) -> frozenset[str]:
        """The wire names of the events that concern it."""
        ...

    @property
    def shape(self) -> str:
        """When the checkpoint has another shape, the follower begins anew."""
        ...

    @property
    def collections(self) -> tuple[Collection, ...]:
        """Where it keeps models; empty when it has none."""
        ...

    def advance(self, progress: Progress, to: int) -> Progress:
        """Handle at most one batch of the events up to the position ``to``."""
        ...


def write_checkpoint(models: ModelStore, progress: Progress) -> Progress:
    """Write a checkpoint for the position that a follower has reached, and no models."""
    checkpoint = msgspec.structs.replace(progress.committed, position=progress.position)
    models.commit(progress.committed, checkpoint)
    return Progress(checkpoint, progress.position)
