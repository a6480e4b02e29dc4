"""The in-memory model store."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from shop.eventsourcing.errors import CheckpointMovedError
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import (
    Checkpoint,
    Filter,
    ModelStore,
    Prepared,
    Reading,
    StoredModel,
    as_json,
    check_filter,
)

Key = tuple[int, str]


class _Shelf:
    """One generation of one collection: models by id, and their keys in order by indexed value."""

    def __init__(self, indexes: tuple[str, ...]) -> None:
        self._indexes = indexes
        self._models: dict[str, StoredModel] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._keys: list[Key] = []
        self._keys_by_value: defaultdict[tuple[str, Any], list[Key]] = defaultdict(list)

    def get(self, id: str) -> StoredModel | None:
        return self._models.get(id)

    def put(self, model: StoredModel) -> None:
        self._remove(model.id)
        if model.data is None:
            return
        fields = msgspec.json.decode(model.data, type=dict[str, Any])
        self._models[model.id] = model
        self._values[model.id] = {name: fields.get(name) for name in self._indexes}
        for keys in self._listings(model.id):
            insort(keys, model.key)

    def find(self, filter: Filter) -> list[StoredModel]:
        wanted = {name: as_json(value) for name, value in filter.equal.items()}
        listings = [self._keys_by_value.get(pair, []) for pair in wanted.items()]
        if filter.ids is not None:
            listings.append(sorted(self._models[id].key for id in filter.ids if id in self._models))
        keys = min(listings, key=len) if listings else self._keys
        found: list[StoredModel] = []
        for key in self._from(keys, filter):
            if len(found) >= filter.limit:
                break
            values = self._values[key[1]]
            if filter.ids is not None and key[1] not in filter.ids:
                continue
            if all(values[name] == value for name, value in wanted.items()):
                found.append(self._models[key[1]])
        return found

    @staticmethod
    def _from(keys: list[Key], filter: Filter) -> Iterator[Key]:
        if filter.reverse:
            end = len(keys) if filter.after is None else bisect_left(keys, filter.after)
            return (keys[i] for i in range(end - 1, -1, -1))
        start = 0 if filter.after is None else bisect_right(keys, filter.after)
        return (keys[i] for i in range(start, len(keys)))

    def _remove(self, id: str) -> None:
        known = self._models.pop(id, None)
        if known is not None:
            for keys in self._listings(id):
                del keys[bisect_left(keys, known.key)]
            del self._values[id]

    def _listings(self, id: str) -> Iterator[list[Key]]:
        yield self._keys
        for pair in self._values[id].items():
            yield self._keys_by_value[pair]


class MemoryModelStore(ModelStore):
    """Models and checkpoints in dicts, under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prepared = Prepared()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._shelves: dict[tuple[str, int], _Shelf] = {}

    def prepare(self, collections: Sequence[Collection]) -> None:
        with self._lock:
            self._prepared.add(collections)

    def checkpoint(self, projection: str) -> Checkpoint | None:
        with self._lock:
            return self._checkpoints.get(projection)

    def get(
        self, projection: str, collection: str, id: str, *, generation: int | None = None
    ) -> Reading[StoredModel | None]:
        with self._lock:
            position, shelf = self._reading(projection, collection, generation)
            return Reading(position, shelf.get(id))

    def find(
        self,
        projection: str,
        collection: Collection,
        filter: Filter,
        *,
        generation: int | None = None,
    ) -> Reading[list[StoredModel]]:
        check_filter(collection, filter)
        with self._lock:
            position, shelf = self._reading(projection, collection.name, generation)
            return Reading(position, shelf.find(filter))

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        with self._lock:
            current = self._checkpoints.get(checkpoint.projection)
            if _place(current) != _place(expected):
                raise CheckpointMovedError(checkpoint.projection)
            written = {model.collection for model in models}
            shelves = {name: self._shelf(name, checkpoint.generation) for name in written}
            for model in models:
                shelves[model.collection].put(model)
            self._checkpoints[checkpoint.projection] = checkpoint

    def discard(self, collections: Sequence[str], generation: int) -> None:
        with self._lock:
            self._prepared.check(*collections)
            for collection in collections:
                self._shelves.pop((collection, generation), None)

    def _reading(
        self, projection: str, collection: str, generation: int | None
    ) -> tuple[int, _Shelf]:
        checkpoint = self._checkpoints.get(projection)
        if generation is None:
            generation = checkpoint.generation if checkpoint else 0
        return (checkpoint.position if checkpoint else 0), self._shelf(collection, generation)

    def _shelf(self, collection: str, generation: int) -> _Shelf:
        indexes = self._prepared.indexes(collection)
        key = (collection, generation)
        if key not in self._shelves:
            self._shelves[key] = _Shelf(indexes)
        return self._shelves[key]


def _place(checkpoint: Checkpoint | None) -> tuple[int, int] | None:
    return None if checkpoint is None else (checkpoint.generation, checkpoint.position)
