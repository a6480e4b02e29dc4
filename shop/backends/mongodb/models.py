"""The model store on MongoDB: a collection of documents for each collection of models.

Models and checkpoint change together without a transaction, so that a standalone server will do. A
commit is one write to one document, the checkpoint: it moves, and takes up the changes of the
models. Then these are written to the models and removed from the checkpoint. A process that finds
changes there, after a crash or before the writer is done, writes them before it reads or commits.
To write them twice does no harm, since a model's position never goes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

import bson
import msgspec
from pymongo import IndexModel, ReturnDocument, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, DuplicateKeyError

from shop.backends.mongodb.database import Database
from shop.backends.mongodb.documents import Document, check_size
from shop.backends.mongodb.errors import DUPLICATE_KEY
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

T = TypeVar("T")

_IN_MEMORY = WriteConcern(w=1)
"""For what may be lost: until it is on disk, the checkpoint holds it there."""
IN_ORDER = "in_order"


class MongoModelStore(ModelStore):
    """Models and checkpoints in a database that it does not own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prepared = Prepared()

    def prepare(self, collections: Sequence[Collection]) -> None:
        self._make([c for c in collections if c not in self._prepared])

    def _make(self, collections: Sequence[Collection]) -> None:
        """Make what is missing of collections and their indexes."""
        for collection in collections:
            indexes = [IndexModel([("generation", 1), ("key", 1)], name=IN_ORDER)]
            indexes += [
                IndexModel([("generation", 1), (f"by.{field}", 1), ("key", 1)], name=f"by_{field}")
                for field in collection.indexes
            ]
            with self._database.using(_name(collection.name)) as documents:
                documents.create_indexes(indexes)
            self._prepared.add([collection])

    def checkpoint(self, projection: str) -> Checkpoint | None:
        found = self._settled(projection)
        if found is None:
            return None
        return Checkpoint(
            projection,
            int(found["generation"]),
            int(found["position"]),
            found["shape"],
            UUID(found["store"]),
        )

    def get(
        self, projection: str, collection: str, id: str, *, generation: int | None = None
    ) -> Reading[StoredModel | None]:
        self._prepared.check(collection)

        def look(live: int) -> StoredModel | None:
            with self._database.using(_name(collection)) as documents:
                found = documents.find_one({"_id": f"{live}/{id}", "key": {"$exists": True}})
            return _model(collection, found) if found else None

        return self._reading(projection, generation, look)

    def find(
        self,
        projection: str,
        collection: Collection,
        filter: Filter,
        *,
        generation: int | None = None,
    ) -> Reading[list[StoredModel]]:
        check_filter(collection, filter)
        self._prepared.check(collection.name)

        def look(live: int) -> list[StoredModel]:
            if not filter.limit:
                return []
            query: Document = {"generation": live}
            query |= {f"by.{name}": as_json(value) for name, value in filter.equal.items()}
            # Deleted models have no key.
            query["key"] = {"$gt": {}}
            if filter.after is not None:
                key = dict(zip(("rank", "id"), filter.after, strict=True))
                query["key"] = {"$lt": key, "$gt": {}} if filter.reverse else {"$gt": key}
            index = f"by_{next(iter(filter.equal))}" if filter.equal else IN_ORDER
            if filter.ids is not None:
                query["_id"] = {"$in": [f"{live}/{id}" for id in filter.ids]}
                index = "_id_"
            with self._database.using(_name(collection.name)) as documents:
                found = (
                    documents.find(query)
                    .sort("key", -1 if filter.reverse else 1)
                    .limit(filter.limit)
                    .hint(index)
                )
                return [_model(collection.name, document) for document in found]

        return self._reading(projection, generation, look)

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        """Write models and move the checkpoint. Raises :class:`StoreError` for more than 16 MB."""
        document: Document = {
            "generation": checkpoint.generation,
            "position": checkpoint.position,
            "shape": checkpoint.shape,
            "store": str(checkpoint.store),
        }
        if models:
            document["pending"] = [self._change(checkpoint.generation, model) for model in models]
            check_size(f"a batch of {checkpoint.projection}", len(bson.encode(document)))
        number = self._move(expected, checkpoint.projection, document)
        if models:
            self._write(checkpoint.projection, {**document, "number": number})

    def _move(self, expected: Checkpoint | None, projection: str, document: Document) -> int:
        """Put the checkpoint's new document in the place of the one expected.

        Returns which commit of the checkpoint it is: they are numbered from 1.
        """
        if expected is None:
            # The database may have been dropped under this process, and be made anew by writing.
            self._database.prepare()
            self._make(list(self._prepared))
            with self._database.using("checkpoints") as checkpoints:
                try:
                    checkpoints.insert_one({"_id": projection, "number": 1, **document})
                except DuplicateKeyError as error:
                    raise CheckpointMovedError(projection) from error
            return 1
        place = {
            "_id": projection,
            "generation": expected.generation,
            "position": expected.position,
        }
        while True:
            with self._database.using("checkpoints") as checkpoints:
                moved = checkpoints.find_one_and_update(
                    {**place, "pending": {"$exists": False}},
                    {"$set": document, "$inc": {"number": 1}},
                    {"number": 1},
                    return_document=ReturnDocument.AFTER,
                )
            if moved is not None:
                return int(moved["number"])
            found = self._settled(projection)
            if found is None or not place.items() <= found.items():
                raise CheckpointMovedError(projection)

    def _settled(self, projection: str) -> Document | None:
        """The checkpoint's document, once the changes that it held are written to the models."""
        while True:
            with self._database.using("checkpoints") as checkpoints:
                found = checkpoints.find_one({"_id": projection})
            if found is None or "pending" not in found:
                return found
            self._write(projection, found)

    def _write(self, projection: str, checkpoint: Document) -> None:
        """Write the changes that the checkpoint holds to the models, and remove them from it."""
        changes: dict[str, list[UpdateOne]] = {}
        for change in checkpoint["pending"]:
            fields = {name: change[name] for name in change if name not in {"in", "_id"}}
            update: Document = {"$set": fields}
            if "key" not in fields:
                update["$unset"] = {"key": 1, "by": 1, "data": 1}
            changes.setdefault(change["in"], []).append(
                UpdateOne(
                    {"_id": change["_id"], "position": {"$lte": change["position"]}},
                    update,
                    upsert=True,
                )
            )
        for collection, updates in changes.items():
            with self._database.using(_name(collection)) as documents:
                try:
                    documents.with_options(write_concern=_IN_MEMORY).bulk_write(
                        updates, ordered=False
                    )
                except BulkWriteError as error:
                    # One that is further already cannot be inserted.
                    failures = error.details["writeErrors"] if error.details else []
                    if not failures or any(f["code"] != DUPLICATE_KEY for f in failures):
                        raise
        with self._database.using("checkpoints") as checkpoints:
            checkpoints.with_options(write_concern=_IN_MEMORY).update_one(
                {"_id": projection, "number": checkpoint["number"]},
                {"$unset": {"pending": 1}},
            )

    def _change(self, generation: int, model: StoredModel) -> Document:
        """What the checkpoint holds for a model."""
        indexes = self._prepared.indexes(model.collection)
        change: Document = {
            "in": model.collection,
            "_id": f"{generation}/{model.id}",
            "generation": generation,
            "id": model.id,
            "position": model.position,
        }
        if model.data is not None:
            fields = msgspec.json.decode(model.data)
            change["key"] = {"rank": model.rank, "id": model.id}
            change["by"] = {name: fields.get(name) for name in indexes}
            change["data"] = model.data
        return change

    def discard(self, collections: Sequence[str], generation: int) -> None:
        self._prepared.check(*collections)
        for collection in collections:
            with self._database.using(_name(collection)) as documents:
                documents.delete_many({"generation": generation})

    def _reading(
        self, projection: str, generation: int | None, look: Callable[[int], T]
    ) -> Reading[T]:
        """What is found in a generation, and the position that it had reached.

        Looked at again where others wrote meanwhile, so that all is of one moment. Where they write
        all the time, after ``timeout`` seconds what is found may be newer than the position.
        """
        until = time.monotonic() + self._database.timeout
        while True:
            before = self._settled(projection)
            live = int(before["generation"]) if before else 0
            value = look(live if generation is None else generation)
            with self._database.using("checkpoints") as checkpoints:
                after = checkpoints.find_one({"_id": projection}, {"generation": 1, "number": 1})
            same_models = _value(before, "generation") == _value(after, "generation")
            unchanged = _value(before, "number") == _value(after, "number")
            if same_models and (unchanged or time.monotonic() > until):
                return Reading(_value(before, "position"), value)


def _value(checkpoint: Document | None, field: str) -> int:
    return int(checkpoint[field]) if checkpoint else 0


def _name(collection: str) -> str:
    return f"model_{collection}"


def _model(collection: str, document: Document) -> StoredModel:
    return StoredModel(
        collection,
        document["id"],
        int(document["key"]["rank"]),
        int(document["position"]),
        document["data"],
    )
