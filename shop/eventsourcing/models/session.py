"""Changing the models of a projection while it handles a batch of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import ProjectionError
from shop.eventsourcing.models.model import Collection, IndexValue, M, ReadModel
from shop.eventsourcing.models.model_store import Filter, ModelStore, StoredModel, read_pages
from shop.eventsourcing.models.reader import decode_model


class ModelSession:
    """The models of one generation, as a projection changes them while it handles a batch.

    Changes are kept here until they are committed with the checkpoint. For one thread. Every
    method raises :class:`ProjectionError` for a class that is not among the projection's
    ``models``.
    """

    def __init__(
        self,
        store: ModelStore,
        projection: str,
        generation: int,
        *,
        models: Sequence[type[ReadModel]],
    ) -> None:
        self._store = store
        self._projection = projection
        self._generation = generation
        self._models = models
        self._loaded: dict[tuple[str, str], StoredModel | None] = {}
        self._changed: dict[tuple[str, str], StoredModel] = {}
        self.position = 0
        """The position of the event that is being handled; set by what runs the projection."""

    def preload(self, collections: Sequence[Collection], ids: frozenset[str]) -> None:
        """Load the models of these ids together, for later :meth:`get` and :meth:`put`."""
        filter = Filter(ids=ids, limit=len(ids))
        for collection in collections:
            found = self._store.find(
                self._projection, collection, filter, generation=self._generation
            )
            self._loaded |= {(collection.name, id): None for id in ids}
            self._loaded |= {(collection.name, stored.id): stored for stored in found.value}

    def get(self, cls: type[M], id: UUID | str) -> M | None:
        """The model of that id, ``None`` where there is none."""
        stored = self._stored(self._collection(cls).name, str(id))
        return decode_model(cls, stored) if stored is not None and stored.data is not None else None

    def put(self, id: UUID | str, model: ReadModel) -> None:
        """Make or replace the model of that id.

        Raises :class:`ProjectionError` where its fields are not of the types that they declare: it
        could not be read again.
        """
        cls = type(model)
        collection = self._collection(cls).name
        data = msgspec.json.encode(model)
        try:
            msgspec.json.decode(data, type=cls)
        except msgspec.ValidationError as error:
            raise ProjectionError(f"{cls.__qualname__}: {error}") from error
        rank = getattr(model, cls.ordered_by) if cls.ordered_by else None
        if cls.ordered_by and not isinstance(rank, int):
            raise ProjectionError(
                f"{cls.__qualname__}.{cls.ordered_by} is {rank!r}: models are ordered by an int"
            )
        self._change(collection, str(id), data.decode(), rank)

    def delete(self, cls: type[ReadModel], id: UUID | str) -> None:
        """Delete the model of that id, if there is one."""
        self._change(self._collection(cls).name, str(id), None)

    def find(self, cls: type[M], **equal: IndexValue) -> Iterator[tuple[str, M]]:
        """Ids and models whose indexed fields equal the values given, as changed so far.

        They may be changed while iterating.
        """
        collection = self._collection(cls)
        changed = [key for key in self._changed if key[0] == collection.name]
        seen = set(changed)
        for stored in read_pages(
            self._store, self._projection, collection, equal=equal, generation=self._generation
        ):
            key = (collection.name, stored.id)
            if key in seen:
                continue
            self._loaded.setdefault(key, stored)
            model = self._match(cls, stored.id, equal)
            if model is not None:
                yield stored.id, model
        for key in changed:
            model = self._match(cls, key[1], equal)
            if model is not None:
                yield key[1], model

    def _match(self, cls: type[M], id: str, equal: Mapping[str, IndexValue]) -> M | None:
        """The model as changed so far, unless its fields no longer equal the values."""
        model = self.get(cls, id)
        if model is None:
            return None
        found = {field: getattr(model, field) for field in equal}
        # As the stores do, which know the JSON alone.
        return model if msgspec.to_builtins(found) == msgspec.to_builtins(equal) else None

    def changes(self) -> list[StoredModel]:
        """What is to be committed."""
        return list(self._changed.values())

    def _collection(self, cls: type[ReadModel]) -> Collection:
        if cls not in self._models:
            raise ProjectionError(
                f"{cls.__qualname__} is not among the models of {self._projection}"
            )
        return Collection.of(self._projection, cls)

    def _stored(self, collection: str, id: str) -> StoredModel | None:
        key = (collection, id)
        if key not in self._loaded:
            self._loaded[key] = self._store.get(
                self._projection, collection, id, generation=self._generation
            ).value
        return self._changed.get(key, self._loaded[key])

    def _change(self, collection: str, id: str, data: str | None, rank: int | None = None) -> None:
        current = self._stored(collection, id)
        loaded = self._loaded.get((collection, id))
        if loaded is not None and loaded.position >= self.position:
            # A store without transactions may have lost the checkpoint of an earlier try, but
            # not this model of it: the event is in there already.
            return
        existed = current is not None and current.data is not None
        if rank is None:
            rank = current.rank if current is not None and existed else self.position
        self._changed[collection, id] = StoredModel(collection, id, rank, self.position, data)
