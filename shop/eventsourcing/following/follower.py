"""What follows the log: the models of a projection, or the reactions of a workflow."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import ProjectionError
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, ModelStore


class Progress(msgspec.Struct, frozen=True):
    """How far a follower has come.

    ``committed`` is the checkpoint in the model store. ``position`` may lie beyond it, when no
    event in between concerned the follower.
    """

    committed: Checkpoint
    position: int


class FollowerError(ProjectionError):
    """A follower failed on an event. ``progress`` is how far it came: to just before that."""

    def __init__(self, progress: Progress, event: Event[EventData], cause: Exception) -> None:
        super().__init__(
            f"{progress.committed.projection} failed on event {event.id} ({event.name}) at position"
            f" {event.position}: {cause!r}"
        )
        self.progress = progress
        self.event = event


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


def claim_generation(follower: Follower, models: ModelStore, store: UUID) -> Checkpoint:
    """The checkpoint of new, empty models, in a generation that nobody else writes to.

    It is stored beside the live checkpoint, in the place of the one claimed before: the next commit
    by the owner of that one fails. Raises :class:`CheckpointMovedError` when somebody else claims a
    generation at the same moment.
    """
    models.prepare(follower.collections)
    last = models.checkpoint(shadow_of(follower.name))
    live = models.checkpoint(follower.name)
    generation = 1 + max(c.generation if c else 0 for c in (live, last))
    claimed = Checkpoint(shadow_of(follower.name), generation, 0, follower.shape, store)
    models.commit(last, claimed)
    return claimed


def shadow_of(name: str) -> str:
    """The name of the checkpoint beside the live one."""
    return f"{name}~shadow"
