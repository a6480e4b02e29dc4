"""The collections, their validators and indexes, and how they are brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from pymongo import IndexModel
from pymongo.database import Database as DriverDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure

from shop.backends.mongodb.documents import Document
from shop.backends.mongodb.errors import NAMESPACE_EXISTS
from shop.eventsourcing.errors import StoreFormatError

Documents = DriverDatabase[Document]

MARKER = "shop"
"""The id of the document in ``store`` that marks the collections as this program's."""

BY_POSITION = "_id_"
BY_COMMIT = "commit"
BY_VERSION = "version_of_aggregate"
BY_ID = "event_id"
BY_AGGREGATE = "aggregate_in_order"
BY_NAME = "name_in_order"
BY_TIME = "time"
BY_HEAD = "empty_by_head"
BY_KIND = "kinds"

_ID = {"bsonType": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
_POSITION = {"bsonType": "long", "minimum": 1}
_WORD = {"bsonType": "string", "minLength": 1}
_NUMBER = {"bsonType": ["int", "long"], "minimum": 1}
_EVENT = {
    "bsonType": "object",
    "required": [
        *("id", "name", "schema", "time", "aggregate", "aggregate_id", "version"),
        *("data", "metadata"),
    ],
    "additionalProperties": False,
    "properties": {
        "id": _ID,
        "name": _WORD,
        "schema": _NUMBER,
        "time": {"bsonType": ["int", "long"]},  # microseconds since 1970-01-01 UTC
        "aggregate": _WORD,
        "aggregate_id": _ID,
        "version": _NUMBER,
        "data": {"bsonType": "object"},
        "metadata": {"bsonType": "object"},
    },
}
_COMMIT = {
    "bsonType": "object",
    "required": ["_id", "last", "commit", "digest", "events"],
    "additionalProperties": False,
    "properties": {
        "_id": _POSITION,
        "last": _POSITION,
        "commit": _ID,
        "digest": {"bsonType": "binData"},
        "kinds": {"bsonType": "array"},
        "events": {"bsonType": "array", "minItems": 1, "items": _EVENT},
    },
}
_EMPTY_COMMIT = {
    "bsonType": "object",
    "required": ["_id", "head", "commit", "digest"],
    "additionalProperties": False,
    "properties": {
        "_id": _ID,
        "head": {"bsonType": "long", "minimum": 0},
        "commit": _ID,
        "digest": {"bsonType": "binData"},
    },
}
_COMMITS_VALIDATOR = {
    "$jsonSchema": {"oneOf": [_COMMIT, _EMPTY_COMMIT]},
    # A commit takes as many positions as it has events.
    "$expr": {
        "$or": [
            {"$eq": [{"$type": "$events"}, "missing"]},
            {"$eq": ["$last", {"$subtract": [{"$add": ["$_id", {"$size": "$events"}]}, 1]}]},
        ]
    },
}
_COMMITS_INDEXES = (
    # In the order in which a violation is to be told: that of the commit id before the others.
    IndexModel("commit", name=BY_COMMIT, unique=True),
    # Sparse, so that commits without events do not meet in the value of a missing field.
    IndexModel(
        [("events.aggregate_id", 1), ("events.aggregate", 1), ("events.version", 1)],
        name=BY_VERSION,
        unique=True,
        sparse=True,
    ),
    IndexModel("events.id", name=BY_ID, unique=True, sparse=True),
    IndexModel(
        [("events.aggregate_id", 1), ("events.aggregate", 1), ("_id", 1)], name=BY_AGGREGATE
    ),
    IndexModel([("events.name", 1), ("_id", 1)], name=BY_NAME),
    IndexModel("events.time", name=BY_TIME),
    IndexModel("head", name=BY_HEAD, sparse=True),
    IndexModel("kinds.name", name=BY_KIND, sparse=True),
)

Migration = Callable[[Documents, str], None]


def prepare(database: Documents, prefix: str, where: str, *, ours: bool) -> str:
    """Make the collections or bring them up to date; return the store's identity.

    ``ours`` says that this process has done so before: what is there without a mark is its own.

    Safe in several processes at once: every step may be done twice. Raises
    :class:`StoreFormatError` where a newer program or another one has been here.
    """
    store = database[f"{prefix}store"]
    marker = store.find_one({"_id": MARKER}) or _mark(database, prefix, where, ours=ours)
    version = marker.get("version")
    if not isinstance(version, int) or not isinstance(marker.get("identity"), str):
        raise StoreFormatError(f"{where} has a collection {prefix}store of some other program")
    if version > len(MIGRATIONS):
        raise StoreFormatError(
            f"{where} has schema version {version}, this program knows up to {len(MIGRATIONS)}:"
            " it was written by a newer one"
        )
    indexes = {index.document["name"] for index in _COMMITS_INDEXES}
    if not indexes <= database[f"{prefix}commits"].index_information().keys():
        version = 0  # a restore may leave them out, and without them nothing is refused
    for number, migration in enumerate(MIGRATIONS[version:], version):
        migration(database, prefix)
        # Never back: another process may have gone further meanwhile.
        store.update_one({"_id": MARKER, "version": number}, {"$set": {"version": number + 1}})
    return str(marker["identity"])


def _mark(database: Documents, prefix: str, where: str, *, ours: bool) -> Document:
    """Mark the collections as this program's, before the first of them is made."""
    store = database[f"{prefix}store"]
    names = set(database.list_collection_names())
    taken = sorted(names & {f"{prefix}{name}" for name in ("commits", "checkpoints", "snapshots")})
    found = store.find_one({"_id": MARKER})  # looked at again: another process may be at it
    if found is not None:
        return found
    if not ours and (taken or store.find_one({"_id": {"$ne": MARKER}}) is not None):
        name = taken[0] if taken else f"{prefix}store"
        raise StoreFormatError(
            f"{where} has a collection {name} of some other program: choose another database, or a"
            " prefix in the URL"
        )
    marker = {"_id": MARKER, "version": 0, "identity": str(uuid4())}
    try:
        store.insert_one(marker)
    except DuplicateKeyError:
        return store.find_one({"_id": MARKER}) or marker
    return marker


def _first_version(database: Documents, prefix: str) -> None:
    _create(database, f"{prefix}commits")
    database.command("collMod", f"{prefix}commits", validator=_COMMITS_VALIDATOR)
    database[f"{prefix}commits"].create_indexes(list(_COMMITS_INDEXES))
    _create(database, f"{prefix}checkpoints")
    _create(database, f"{prefix}snapshots")


def _create(database: Documents, name: str) -> None:
    try:
        database.create_collection(name, check_exists=False)
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise


MIGRATIONS: tuple[Migration, ...] = (_first_version,)
