"""The model store port: keeps read models, and checkpoints of how far they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import ProjectionError
from shop.eventsourcing.events.ordinal import check_count
from shop.eventsourcing.events.types import check_collection
from shop.eventsourcing.models.model import Collection, IndexValue

T_co = TypeVar("T_co", covariant=True)


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a projection has come: every event up to ``position`` is in its models.

    ``generation`` tells which models are meant, since a rebuild makes new ones beside the old;
    ``shape`` stands for the projection's code, ``store`` is the identity of the event store.
    """

    projection: str
    generation: int
    position: int
    shape: str
    store: UUID


class StoredModel(msgspec.Struct, frozen=True):
    """A model as it is stored. ``data`` is JSON; ``None`` means that the model is to be deleted.

    ``rank`` is its place in listings: the position of the event that made it, unless the class has
    ``ordered_by``. ``position`` is that of the last event that changed it: within a generation, it
    never goes back.
    """

    collection: str
    id: str
    rank: int
    position: int
    data: str | None

    @property
    def key(self) -> tuple[int, str]:
        """Its place among the models of the collection, which changes with ``rank`` alone."""
        return self.rank, self.id


class Reading(msgspec.Struct, Generic[T_co], frozen=True):
    """What a query found, and the position that the models had reached (at least)."""

    position: int
    value: T_co


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which models of a collection, in the order of their keys.

    ``equal`` holds values of indexed fields, all of which must match. Models are found by the index
    of the first and checked for the others: so the one that fewest models share comes first.
    ``ids`` are those of the models wanted, as text; ``after`` is the ``key`` of the last one seen.
    """

    equal: Mapping[str, IndexValue] = {}
    ids: frozenset[str] | None = None
    after: tuple[int, str] | None = None
    limit: int = 50
    reverse: bool = False
    """Newest first."""

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
        if self.ids is not None:
            check_collection("ids", self.ids, str)


class ModelStore(Protocol):
    """Keeps read models and checkpoints. All methods block and may be called by any thread.

    Raises :class:`~shop.eventsourcing.errors.StoreUnavailableError` where it cannot be reached.
    """

    def prepare(self, collections: Sequence[Collection]) -> None:
        """Make the collections and their indexes where they do not exist yet.

        The other methods raise :class:`ProjectionError` for one that this store was not given here.
        """
        ...

    def checkpoint(self, projection: str) -> Checkpoint | None:
        """The projection's checkpoint, ``None`` before its first commit."""
        ...

    def get(
        self, projection: str, collection: str, id: str, *, generation: int | None = None
    ) -> Reading[StoredModel | None]:
        """One model, from the live generation (the checkpoint's) unless another is given.

        ``None`` where there is none.
        """
        ...

    def find(
        self,
        projection: str,
        collection: Collection,
        filter: Filter,
        *,
        generation: int | None = None,
    ) -> Reading[list[StoredModel]]:
        """The models that match, from the live generation unless another is given.

        In the order of their keys. Deleted ones are not among them. Raises ``ValueError`` for a
        filter on a field that is not indexed.
        """
        ...

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        """Write models of the checkpoint's generation and move the checkpoint, all or nothing.

        Raises :class:`CheckpointMovedError` and writes nothing unless the checkpoint still has the
        expected generation and position (``None``: does not exist).
        """
        ...

    def discard(self, collections: Sequence[str], generation: int) -> None:
        """Delete one generation of models; there may be none."""
        ...


def read_pages(
    store: ModelStore,
    projection: str,
    collection: Collection,
    *,
    equal: Mapping[str, IndexValue] = {},
    generation: int | None = None,
) -> Iterator[StoredModel]:
    """All models whose indexed fields equal the values given, in the order of their keys.

    They are read 500 at a time. Those that change their place meanwhile may be missed or come
    twice. Raises what :meth:`ModelStore.find` raises.
    """
    filter = Filter(equal=equal, limit=500)
    while True:
        page = store.find(projection, collection, filter, generation=generation).value
        yield from page
        if len(page) < filter.limit:
            return
        filter = msgspec.structs.replace(filter, after=page[-1].key)


class Prepared:
    """The collections that a model store has prepared. For backends; any thread may use it."""

    def __init__(self) -> None:
        self._indexes: dict[str, tuple[str, ...]] = {}

    def add(self, collections: Sequence[Collection]) -> None:
        """Note that these are made."""
        self._indexes |= {collection.name: collection.indexes for collection in collections}

    def __iter__(self) -> Iterator[Collection]:
        return (Collection(name, indexes) for name, indexes in list(self._indexes.items()))

    def __contains__(self, collection: Collection) -> bool:
        """Whether a collection is made, with just these indexes."""
        return self._indexes.get(collection.name) == collection.indexes

    def indexes(self, name: str) -> tuple[str, ...]:
        """The indexes of a collection. Raises as :meth:`check`."""
        self.check(name)
        return self._indexes[name]

    def check(self, *names: str) -> None:
        """Raise :class:`ProjectionError` where one of the collections was not prepared."""
        for name in names:
            if name not in self._indexes:
                raise ProjectionError(
                    f"the collection {name} was not prepared: run its projection here, or call"
                    " models.prepare(projection.collections) first"
                )


def as_json(value: IndexValue) -> Any:
    """The value of an indexed field as the JSON of models has it. For backends."""
    return msgspec.to_builtins(value)


def check_filter(collection: Collection, filter: Filter) -> None:
    """Raise ``ValueError`` where a filter uses a field without an index. For backends."""
    missing = sorted(set(filter.equal) - set(collection.indexes))
    if missing:
        raise ValueError(f"{collection.name} has no index on {', '.join(missing)}")
