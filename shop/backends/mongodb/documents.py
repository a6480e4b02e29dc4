"""Events and commits as BSON documents, and back.

Ids are text, so that the documents can be read and searched with any tool, and decoded quickly:
the driver makes an object of every binary value of its own. Times are microseconds, since BSON's
have milliseconds only. Payloads are the same JSON values as in every other store.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from functools import partial
from struct import Struct
from typing import Any
from uuid import UUID

import bson
import msgspec
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import InvalidDocument
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument

from shop.eventsourcing.errors import PayloadError, StoreError, StoreFormatError
from shop.eventsourcing.events.decoding import undecodable
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, Metadata
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.events.times import microseconds, time_of
from shop.eventsourcing.stores.append import Kind, PreparedAppend
from shop.eventsourcing.stores.store import Commit

Document = dict[str, Any]

_LARGEST = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of a document, at most, without what is still put to it here or by the driver."""
_DEEPEST = 80
"""Levels of nesting in a payload. The server takes 100, of which the commit has some."""

_INT32, _INT64 = Struct("<i"), Struct("<q")
_FIXED_SIZES = {0x01: 8, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x12: 8}
_STRING, _DOCUMENT, _ARRAY, _BINARY, _LONG = 0x02, 0x03, 0x04, 0x05, 0x12
_uuid = partial(msgspec.convert, type=UUID)
_metadata = partial(msgspec.convert, type=Metadata)


class _PlainInt(TypeDecoder):
    """Whole numbers are ``int``, of whatever size: upcasters see the same on every store."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


_OPTIONS: CodecOptions[Document] = CodecOptions(type_registry=TypeRegistry([_PlainInt()]))


class Append(msgspec.Struct, frozen=True):
    """An append, and its document but for the positions."""

    prepared: PreparedAppend
    body: bytes
    """The document's elements that do not depend on where the commit comes to be."""
    kinds: Set[Kind]

    @classmethod
    def of(cls, prepared: PreparedAppend) -> Append:
        """Encode an append. Raises :class:`PayloadError` for what BSON does not hold, and
        :class:`StoreError` for more than fits into one document.
        """
        rest: Document = {"commit": str(prepared.commit_id), "digest": prepared.digest}
        if prepared.events:
            rest["events"] = [
                _event(event, payload)
                for event, payload in zip(prepared.events, prepared.payloads, strict=True)
            ]
        try:
            body = bson.encode(rest)[4:-1]
        except (InvalidDocument, OverflowError) as error:
            raise _unfit(prepared, error) from error
        check_size(f"commit {prepared.commit_id}", len(body))
        return cls(prepared, body, prepared.kinds)

    def document(self, commit: Commit, known_kinds: Set[Kind]) -> RawBSONDocument:
        """The whole document of the commit that it became, with the kinds that are new with it."""
        if self.prepared.events:
            keys = b"\x12_id\0" + _INT64.pack(commit.first) + b"\x12last\0"
        else:
            keys = bson.encode({"_id": str(commit.id)})[4:-1] + b"\x12head\0"
        elements = keys + _INT64.pack(commit.last) + self.body
        new_kinds = self.kinds - known_kinds
        if new_kinds:
            fields = ("aggregate", "name", "schema")
            kinds = [dict(zip(fields, kind, strict=True)) for kind in sorted(new_kinds)]
            elements += bson.encode({"kinds": kinds})[4:-1]
        return RawBSONDocument(_INT32.pack(len(elements) + 5) + elements + b"\0")


def check_size(what: str, size: int) -> None:
    """Raise :class:`StoreError` where something of so many bytes does not fit into a document."""
    if size > _LARGEST:
        raise StoreError(
            f"{what} takes {size:,} bytes, and MongoDB holds 16 MB in a document: make it smaller"
        )


def commit_of(document: Document) -> Commit:
    """A known commit, from its document without the events."""
    last = int(document["last"] if "last" in document else document["head"])
    first = int(document["_id"]) if "last" in document else last + 1
    id, digest = UUID(document["commit"]), bytes(document["digest"])
    return Commit(id, first, last, digest, replayed=True)


class StoredCommit(msgspec.Struct, frozen=True):
    """A commit as it was read, its events still encoded."""

    first: int
    id: str
    events: bytes
    """A BSON array."""

    def rows(self) -> Iterator[tuple[int, Document]]:
        """Position and document of each event, decoded one by one: a commit may be long."""
        data, at, position = self.events, 4, self.first
        while data[at]:
            if data[at] != _DOCUMENT:
                raise StoreFormatError(f"the commit at position {self.first} has no proper events")
            at = data.index(0, at + 1) + 1
            end = at + _INT32.unpack_from(data, at)[0]
            yield position, bson.decode(data[at:end], _OPTIONS)
            at, position = end, position + 1

    @property
    def size(self) -> int:
        """How many events it has."""
        data, at, size = self.events, 4, 0
        while data[at]:
            at = data.index(0, at + 1) + 1
            at += _INT32.unpack_from(data, at)[0]
            size += 1
        return size


def stored_commits(batch: bytes) -> Iterator[StoredCommit]:
    """The commits of a batch of documents that have the fields ``commit`` and ``events``."""
    at = 0
    while at < len(batch):
        end = at + _INT32.unpack_from(batch, at)[0]
        fields = dict(_elements(batch, at))
        yield StoredCommit(
            _INT64.unpack(fields["_id"])[0],
            fields["commit"][4:-1].decode(),
            fields["events"],
        )
        at = end


def _elements(data: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    """Names and encoded values of the elements of the document that begins there."""
    at += 4
    while kind := data[at]:
        name_end = data.index(0, at)
        name = data[at + 1 : name_end].decode()
        at = name_end + 1
        if kind == _STRING:
            size = 4 + _INT32.unpack_from(data, at)[0]
        elif kind in {_DOCUMENT, _ARRAY}:
            size = _INT32.unpack_from(data, at)[0]
        elif kind == _BINARY:
            size = 5 + _INT32.unpack_from(data, at)[0]
        else:
            size = _FIXED_SIZES[kind]
        yield name, data[at : at + size]
        at += size


def event_of(registry: Registry[EventData], position: int, row: Document) -> Event[EventData]:
    """The event of a document. Raises :class:`EventDecodeError` where it cannot be decoded."""
    id, name = _uuid(row["id"]), row["name"]
    try:
        data = registry.convert(name, row["schema"], row["data"])
        metadata = _metadata(row["metadata"])
    except (PayloadError, msgspec.ValidationError) as error:
        raise undecodable(id, name, position, error) from error
    return Event(
        id,
        name,
        time_of(row["time"]),
        AggregateRef(row["aggregate"], _uuid(row["aggregate_id"])),
        row["version"],
        data,
        metadata,
        position,
    )


def _event(event: Event[EventData], payload: bytes) -> Document:
    return {
        "id": str(event.id),
        "name": event.name,
        "schema": event.data.wire.version,
        "time": Int64(microseconds(event.time)),
        "aggregate": event.aggregate.name,
        "aggregate_id": str(event.aggregate.id),
        "version": event.version,
        "data": _fields(event.name, payload),
        "metadata": msgspec.to_builtins(event.metadata),
    }


def _fields(name: str, payload: bytes) -> Document:
    """The payload's JSON object. Refuses what would not come back from BSON as it is."""
    fields: Document = msgspec.json.decode(payload)
    if payload.count(b"{") + payload.count(b"[") > _DEEPEST and _depth(fields) > _DEEPEST:
        raise PayloadError(name, f"it is nested more than {_DEEPEST} levels deep")
    if b'"$ref"' in payload and bson.decode(bson.encode(fields), _OPTIONS) != fields:
        raise PayloadError(name, "MongoDB has a meaning of its own for the keys $ref and $id")
    return fields


def _depth(value: Any) -> int:
    """How deep a JSON value is nested, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return depth


def _unfit(prepared: PreparedAppend, error: Exception) -> PayloadError:
    """The error for the event that cannot be encoded."""
    reason = f"MongoDB cannot hold it: {error}"
    if isinstance(error, OverflowError):
        reason = "MongoDB holds whole numbers of 64 bits at most"
    for event, payload in zip(prepared.events, prepared.payloads, strict=True):
        try:
            bson.encode(msgspec.json.decode(payload))
        except (InvalidDocument, OverflowError):
            return PayloadError(event.name, reason)
    return PayloadError(prepared.events[0].name, reason)
