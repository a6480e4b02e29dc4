"""Rebuilding the models of a projection beside the live ones, and comparing the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from shop.eventsourcing.errors import CheckpointMovedError, ProjectionError
from shop.eventsourcing.following.follower import (
    Progress,
    claim_generation,
    shadow_of,
    write_checkpoint,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, ModelStore, StoredModel, read_pages
from shop.eventsourcing.projections.fold import Fold
from shop.eventsourcing.projections.projection import Projection
from shop.eventsourcing.stores.store import EventStore

ProgressListener = Callable[[int, int], None]
"""Called with the position reached, and the one to reach."""


class Difference(msgspec.Struct, frozen=True):
    """A model that differs from what the log makes of it. ``None`` stands for no such model."""

    collection: str
    id: str
    live: str | None
    rebuilt: str | None


class Shadow:
    """A second set of a projection's models, folded from the whole log beside the live one.

    Readers and the projection's own thread go on with the live models. For one thread; a shadow
    that another process begins later takes this one's place, and this one then raises
    :class:`CheckpointMovedError`. Use it in a ``with`` block: it is deleted at the end, unless it
    became the live one. Raises :class:`ProjectionError` when there are no live models.
    """

    def __init__(self, projection: Projection, events: EventStore, models: ModelStore) -> None:
        self._projection = projection
        self._events = events
        self._models = models
        self._fold = Fold(projection, events, models)
        self._collections = projection.collections
        self._displaced = self._generation_beside()
        identity = events.info().identity
        self._progress = Progress(claim_generation(self._fold, models, identity), 0)

    def __enter__(self) -> Shadow:
        return self

    def __exit__(self, *exception: object) -> None:
        self._discard(self._displaced, self._progress.committed.generation)

    @property
    def position(self) -> int:
        """How far the shadow has come."""
        return self._progress.position

    def catch_up(self, to: int, on_progress: ProgressListener = lambda position, to: None) -> None:
        """Fold the log up to a position."""
        while self._progress.position < to:
            self._progress = self._fold.advance(self._progress, to)
            on_progress(self._progress.position, to)

    def differences(
        self, on_progress: ProgressListener = lambda position, to: None
    ) -> list[Difference]:
        """Fold the log up to the position of the live models, and return which models differ.

        A model that the live projection changes meanwhile is compared again at a later position,
        the same for both. Do not call it after a :meth:`catch_up` beyond the live models.
        """
        self.catch_up(self._live().position, on_progress)
        suspects = {
            (collection.name, id)
            for collection in self._collections
            for id in self._unequal(collection)
        }
        settled = (self._settle(collection, id) for collection, id in sorted(suspects))
        return [difference for difference in settled if difference is not None]

    def promote(self) -> None:
        """Make the shadow the live generation, in one step, and delete the old one."""
        while True:
            live = self._live()
            self.catch_up(self._events.head())
            # Even if nothing was left to fold, this fails when another shadow took the place.
            self._progress = write_checkpoint(self._models, self._progress)
            own = self._progress.committed
            try:
                self._models.commit(
                    live, msgspec.structs.replace(own, projection=self._projection.name)
                )
            except CheckpointMovedError:
                continue  # the live projection went a step further: so does the shadow
            self._discard(live.generation)
            return

    def _live(self) -> Checkpoint:
        live = self._models.checkpoint(self._projection.name)
        if live is None:
            raise ProjectionError(f"{self._projection.name} has no models yet: it never ran")
        return live

    def _generation_beside(self) -> int:
        """The generation of an earlier shadow, which may have been left behind by a crash.

        It is not deleted before the end: its owner, if there is one, may be about to promote it.
        """
        self._live()
        earlier = self._models.checkpoint(shadow_of(self._projection.name))
        return earlier.generation if earlier else 0

    def _discard(self, *generations: int) -> None:
        """Delete generations, but never the live one."""
        live = self._live().generation
        for generation in generations:
            if generation != live:
                self._models.discard([c.name for c in self._collections], generation)

    def _unequal(self, collection: Collection) -> Iterator[str]:
        """Ids of the models that are not the same in both generations, by a merge of the two."""
        live = self._all(collection, self._live().generation)
        shadow = self._all(collection, self._progress.committed.generation)
        a, b = next(live, None), next(shadow, None)
        while a is not None or b is not None:
            if b is None or (a is not None and a.key < b.key):
                assert a is not None
                yield a.id
                a = next(live, None)
            elif a is None or b.key < a.key:
                yield b.id
                b = next(shadow, None)
            else:
                if a.data != b.data:
                    yield a.id
                a, b = next(live, None), next(shadow, None)

    def _all(self, collection: Collection, generation: int) -> Iterator[StoredModel]:
        return read_pages(self._models, self._projection.name, collection, generation=generation)

    def _settle(self, collection: str, id: str) -> Difference | None:
        """Compare one model at the position of the live models."""
        name, generation = self._projection.name, self._progress.committed.generation
        live = self._models.get(name, collection, id)
        self.catch_up(live.position)
        rebuilt = self._models.get(name, collection, id, generation=generation)
        theirs = live.value.data if live.value else None
        ours = rebuilt.value.data if rebuilt.value else None
        return None if theirs == ours else Difference(collection, id, theirs, ours)
