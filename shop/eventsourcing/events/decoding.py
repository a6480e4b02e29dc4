"""From stored rows to events. For backends that keep payloads as JSON text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import EventDecodeError, PayloadError, UnregisteredError
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, Metadata
from shop.eventsourcing.events.registry import Registry

Row = tuple[Any, ...]
"""position, id, name, schema version, time, aggregate, aggregate's id, version, data, metadata"""

COLUMNS = (
    "position, id, name, schema_version, time, aggregate, aggregate_id, version, data, metadata"
)
"""The columns of a :data:`Row`, by the names that they have in every table of events."""

_decode_metadata = msgspec.json.Decoder(Metadata).decode

EVOLVE = (
    "where the class of an event was changed, raise its version and add an upcaster:"
    ' docs/toolkit.md, "When an event changes"'
)
"""What to do about data that does not fit its class."""
_UNKNOWN = "add the module that has its class, or look whether this is the store that you mean"


def decode_rows(
    registry: Registry[EventData],
    rows: Iterable[Row],
    *,
    id_of: Callable[[Any], UUID],
    time_of: Callable[[Any], datetime],
) -> Iterator[Event[EventData]]:
    """The events of rows. ``id_of`` and ``time_of`` convert ids and times from how they are stored.

    Raises :class:`EventDecodeError` at one that cannot be decoded.
    """
    decode = registry.decode
    encoded, metadata = None, Metadata()
    for position, id, name, schema, time, aggregate, aggregate_id, version, data, why in rows:
        try:
            payload = decode(name, schema, data)
            if why != encoded:  # the events of one commit have the same
                encoded, metadata = why, _decode_metadata(why)
        except (PayloadError, msgspec.DecodeError) as error:
            raise undecodable(id_of(id), name, position, error) from error
        yield Event(
            id_of(id),
            name,
            time_of(time),
            AggregateRef(aggregate, id_of(aggregate_id)),
            version,
            payload,
            metadata,
            position,
        )


def undecodable(
    id: UUID, name: str, position: int, error: PayloadError | msgspec.DecodeError
) -> EventDecodeError:
    """The error for an event whose payload (:class:`PayloadError`) or metadata is not readable."""
    if not isinstance(error, PayloadError):
        return EventDecodeError(id, name, position, f"its metadata: {error}")
    reason = f"{error.reason} at {error.path}" if error.path else error.reason
    hint = EVOLVE if isinstance(error.__cause__, msgspec.ValidationError) else ""
    if isinstance(error, UnregisteredError):
        hint = _UNKNOWN
    return EventDecodeError(id, name, position, reason, hint)
