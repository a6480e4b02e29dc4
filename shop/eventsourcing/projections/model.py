"""Read models: what queries answer with, kept up to date by projections.

A model is an immutable struct under an id, in a collection of one projection. The collections of a
projection and its checkpoint are changed together: every model equals the fold of the log up to
the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import ProjectionError
from shop.eventsourcing.events.ordinal import check_count
from shop.eventsourcing.events.types import check_collection

IndexValue = str | int | bool | UUID
"""What a model can be looked up by."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LONGEST_NAME = 120
"""Characters of a collection's name: with database and prefix, MongoDB takes 255 bytes."""
_LONGEST_FIELD = 60
"""Characters of an indexed field's name: PostgreSQL has 63 bytes for that of a column."""


class ReadModel(msgspec.Struct, frozen=True):
    """Base of read models. ``indexes`` names the fields that models are looked up by.

    Models are listed in the order of the events that made them, or by the integer field that
    ``ordered_by`` names.
    """

    indexes: ClassVar[tuple[str, ...]] = ()
    ordered_by: ClassVar[str | None] = None


M = TypeVar("M", bound=ReadModel)
T_co = TypeVar("T_co", covariant=True)


class Collection(msgspec.Struct, frozen=True):
    """Where the models of one class are kept: a name, and the fields that have an index.

    Raises ``ValueError`` for a name that :func:`check_name` refuses.
    """

    name: str
    indexes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("the name of a collection", self.name)
        for field in self.indexes:
            check_name(f"an indexed field of {self.name}", field, longest=_LONGEST_FIELD)

    @classmethod
    @cache
    def of(cls, projection: str, model: type[ReadModel]) -> Collection:
        """The collection of a model class in a projection, such as ``order_summary_order``."""
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", model.__name__).lower()
        return cls(f"{projection}_{snake}", model.indexes)


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


class Keyed(msgspec.Struct, Generic[T_co], frozen=True):
    """A model of a listing, and its place there."""

    key: tuple[int, str]
    model: T_co


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which models of a collection, in the order of their keys.

    ``equal`` holds values of indexed fields, all of which must match; ``ids`` those of the models
    wanted, as text; ``after`` is the ``key`` of the last one seen.
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


class Prepared:
    """The collections that a model store has prepared. For backends; any thread may use it."""

    def __init__(self) -> None:
        self._indexes: dict[str, tuple[str, ...]] = {}

    def add(self, collections: Sequence[Collection]) -> None:
        """Note that these are made."""
        self._indexes |= {collection.name: collection.indexes for collection in collections}

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
        """Of the event that is being handled; set by whoever runs the projection."""

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
        filter = Filter(equal=equal, limit=500)
        changed = [key for key in self._changed if key[0] == collection.name]
        seen = set(changed)
        while True:
            page = self._store.find(
                self._projection, collection, filter, generation=self._generation
            ).value
            for stored in page:
                key = (collection.name, stored.id)
                if key in seen:
                    continue
                self._loaded.setdefault(key, stored)
                model = self._match(cls, stored.id, equal)
                if model is not None:
                    yield stored.id, model
            if len(page) < filter.limit:
                break
            filter = msgspec.structs.replace(filter, after=page[-1].key)
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


def decode_model(cls: type[M], stored: StoredModel) -> M:
    """The model from its stored form."""
    return msgspec.json.decode(stored.data or "null", type=cls)


def check_name(what: str, name: object, *, longest: int = _LONGEST_NAME) -> None:
    """Raise ``ValueError`` for a name that some store cannot give to a collection or an index."""
    if not (isinstance(name, str) and len(name) <= longest and _NAME.fullmatch(name)):
        raise ValueError(
            f"{what} must be up to {longest} lower-case letters, digits and _, beginning with a"
            f" letter, not {name!r}"
        )


def check_filter(collection: Collection, filter: Filter) -> None:
    """Raise ``ValueError`` where a filter uses a field without an index. For backends."""
    missing = sorted(set(filter.equal) - set(collection.indexes))
    if missing:
        raise ValueError(f"{collection.name} has no index on {', '.join(missing)}")
