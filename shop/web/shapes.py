"""The JSON shapes of events, and of the results of commands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from shop.eventsourcing import CommandResult, Event, EventData, Metadata


class StoredEvent(msgspec.Struct, frozen=True):
    """An event of the log. What ``data`` holds depends on ``name``."""

    position: int
    id: UUID
    name: str
    time: datetime
    aggregate: str
    aggregate_id: UUID
    version: int
    data: Annotated[Any, Meta(extra_json_schema={"type": "object"})]
    metadata: Metadata

    @classmethod
    def of(cls, event: Event[EventData]) -> StoredEvent:
        """The event, as it is shown to clients."""
        return cls(
            event.position,
            event.id,
            event.name,
            event.time,
            event.aggregate.name,
            event.aggregate.id,
            event.version,
            event.data,
            event.metadata,
        )


class RecordedEvent(msgspec.Struct, frozen=True):
    """Which event a command recorded."""

    id: UUID
    name: str
    position: int


class Result(msgspec.Struct, frozen=True):
    """What a command did; ``version`` is the addressed aggregate's afterwards."""

    command_id: UUID
    aggregate: str
    aggregate_id: UUID
    version: int
    position: int
    events: list[RecordedEvent]

    @classmethod
    def of(cls, result: CommandResult) -> Result:
        """The result, as it is shown to clients."""
        return cls(
            result.command_id,
            result.aggregate.name,
            result.aggregate.id,
            result.version,
            result.position,
            [RecordedEvent(event.id, event.name, event.position) for event in result.events],
        )
