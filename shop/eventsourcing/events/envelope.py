"""An event outside a store, on a bus or in an archive: a JSON object that any program can read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shop.eventsourcing.errors import EventSourcingError, PayloadError
from shop.eventsourcing.events.decoding import undecodable
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, Metadata
from shop.eventsourcing.events.ordinal import Ordinal
from shop.eventsourcing.events.registry import Registry


class EnvelopeError(EventSourcingError):
    """A message is no event."""


class OmittedDataError(EventSourcingError):
    """A message tells of an event without its data, which was too large."""

    def __init__(self, event_id: UUID, position: int) -> None:
        super().__init__(
            f"the data of event {event_id} at position {position} is in the store only"
        )
        self.event_id = event_id
        self.position = position


class UnknownEventData(EventData, frozen=True):
    """The data of an event that this program cannot read, as the JSON that it came as."""

    json: bytes


class _Envelope(msgspec.Struct, frozen=True):
    position: Ordinal
    id: UUID
    name: str
    schema: Ordinal
    time: Annotated[datetime, Meta(tz=True)]
    aggregate: str
    aggregate_id: UUID
    version: Ordinal
    data: Any
    metadata: Metadata
    href: str | UnsetType = UNSET


class _Received(_Envelope, frozen=True):
    data: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Received).decode


def encode_event(event: Event[EventData], *, href: str | None = None) -> bytes:
    """A stored event as JSON.

    With ``href``, for a message that must be short, ``data`` is null, and ``href`` is where the
    whole event can be read.
    """
    aggregate = event.aggregate
    return _encode(
        _Envelope(
            event.position,
            event.id,
            event.name,
            event.data.wire.version,
            event.time,
            aggregate.name,
            aggregate.id,
            event.version,
            event.data if href is None else None,
            event.metadata,
            UNSET if href is None else href,
        )
    )


def decode_event(
    registry: Registry[EventData], message: bytes, *, strict: bool = True
) -> Event[EventData]:
    """The event of a message.

    Raises :class:`EnvelopeError` where it is none, :class:`OmittedDataError` where it came without
    its data, and :class:`EventDecodeError` where this program cannot read the data: that becomes
    :class:`UnknownEventData` unless ``strict``.
    """
    try:
        envelope = _decode(message)
        time = envelope.time.astimezone(UTC)
    except (ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeError(f"this is no event: {error}") from error
    if envelope.href is not UNSET:
        raise OmittedDataError(envelope.id, envelope.position)
    json = bytes(envelope.data)
    data: EventData
    try:
        data = registry.decode(envelope.name, envelope.schema, json)
    except PayloadError as error:
        if strict:
            raise undecodable(envelope.id, envelope.name, envelope.position, error) from error
        data = UnknownEventData(json)
    return Event(
        envelope.id,
        envelope.name,
        time,
        AggregateRef(envelope.aggregate, envelope.aggregate_id),
        envelope.version,
        data,
        envelope.metadata,
        envelope.position,
    )


def event_schemas(registry: Registry[EventData]) -> dict[str, Any]:
    """A JSON Schema (2020-12) that describes the messages of all events.

    Its ``$defs`` hold the schema of the data of each event, under the event's name.
    """
    classes = sorted(registry, key=lambda cls: cls.wire.name)
    schemas, components = msgspec.json.schema_components(
        [_Envelope, *classes], ref_template="#/$defs/{name}"
    )
    envelope = components.pop("_Envelope")
    definitions = {}
    messages = []
    for cls, schema in zip(classes, schemas[1:], strict=True):
        name = cls.wire.name
        definitions[name] = components.pop(schema["$ref"].rpartition("/")[2])
        specific = {"name": {"const": name}, "schema": {"const": cls.wire.version}}
        data = {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]}
        messages.append({"properties": {**specific, "data": data}})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **{key: value for key, value in envelope.items() if key != "title"},
        "oneOf": messages,
        "$defs": definitions | components,
    }
