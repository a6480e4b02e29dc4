"""Reading the models of a projection, for queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.models.model import Collection, IndexValue, M
from shop.eventsourcing.models.model_store import (
    Filter,
    ModelStore,
    Reading,
    StoredModel,
    read_pages,
)

T_co = TypeVar("T_co", covariant=True)


class Keyed(msgspec.Struct, Generic[T_co], frozen=True):
    """A model of a listing, and its place there."""

    key: tuple[int, str]
    model: T_co


class ModelReader:
    """The read models of one projection, for queries. Thread-safe.

    Raises :class:`ProjectionError` until the store has prepared its collections: the projection's
    runner does that in its thread, and a program that only reads calls
    ``models.prepare(projection.collections)``.
    """

    def __init__(self, store: ModelStore, projection: str) -> None:
        self._store = store
        self.projection = projection

    def position(self) -> int:
        """The position that the models have reached, 0 before the first."""
        checkpoint = self._store.checkpoint(self.projection)
        return checkpoint.position if checkpoint else 0

    def get(self, cls: type[M], id: UUID | str) -> Reading[M | None]:
        """The model of that id, ``None`` where there is none."""
        name = Collection.of(self.projection, cls).name
        found = self._store.get(self.projection, name, str(id))
        stored = found.value
        if stored is None or stored.data is None:
            return Reading(found.position, None)
        return Reading(found.position, decode_model(cls, stored))

    def find(self, cls: type[M], filter: Filter = Filter()) -> Reading[list[Keyed[M]]]:
        """The models that match, each with its key, which continues the listing.

        Raises ``ValueError`` for a filter on a field that is not indexed.
        """
        collection = Collection.of(self.projection, cls)
        found = self._store.find(self.projection, collection, filter)
        models = [Keyed(stored.key, decode_model(cls, stored)) for stored in found.value]
        return Reading(found.position, models)

    def all(self, cls: type[M], **equal: IndexValue) -> Iterator[M]:
        """All models whose indexed fields equal the values given, oldest first, page by page.

        Models that change their place meanwhile may be missed or come twice. Raises ``ValueError``
        for a field that is not indexed.
        """
        collection = Collection.of(self.projection, cls)
        for stored in read_pages(self._store, self.projection, collection, equal=equal):
            yield decode_model(cls, stored)


def decode_model(cls: type[M], stored: StoredModel) -> M:
    """The model from its stored form."""
    return msgspec.json.decode(stored.data or "null", type=cls)
