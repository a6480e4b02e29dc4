"""Events: what happened, in an envelope that says when, to which aggregate, and why."""

from __future__ import annotations

import random
import time as clock
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.events.registry import Payload, Upcaster, WireFormat, check_payload
from shop.eventsourcing.events.types import check_types


class EventData(Payload, frozen=True):
    """Base of event payloads: immutable, typed, decorated with :func:`event`."""


D = TypeVar("D", bound=EventData)
D_co = TypeVar("D_co", bound=EventData, covariant=True)
C = TypeVar("C", bound=type[EventData])


def event(
    name: str, *, version: int = 1, upcasters: Mapping[int, Upcaster] | None = None
) -> Callable[[C], C]:
    """Give an event's payload class its wire name and the version of its schema.

    ``upcasters[n]`` turns the JSON object of version ``n`` into that of ``n + 1``; a class at
    version 3 that can still read all older events has upcasters for 1 and 2.
    """
    wire = WireFormat(name, version, upcasters or {})

    def decorate(cls: C) -> C:
        check_payload(cls, EventData)
        cls.wire = wire
        return cls

    return decorate


class AggregateRef(msgspec.Struct, frozen=True, gc=False):
    """Which aggregate: the name of its kind and its own id. Hashable; ``str`` gives ``name/id``."""

    name: str
    id: UUID

    def __str__(self) -> str:
        return f"{self.name}/{self.id}"


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Why an event happened.

    ``command_id``: the command that recorded it. ``correlation_id``: common to everything that
    began with one request. ``causation_id``: the event or command that the command reacted to.
    ``actor``: who asked for it.
    """

    command_id: UUID | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    actor: str | None = None


def check_metadata(metadata: Metadata) -> None:
    """Raise ``TypeError`` for metadata of wrong types, which could not be read again."""
    check_types(
        UUID,
        optional=True,
        command_id=metadata.command_id,
        correlation_id=metadata.correlation_id,
        causation_id=metadata.causation_id,
    )
    check_types(str, optional=True, actor=metadata.actor)


class Event(msgspec.Struct, Generic[D_co], frozen=True, gc=False):
    """One thing that happened to one aggregate. Immutable, so any thread may share it.

    ``time`` is aware and in UTC, to the microsecond. ``version`` numbers the events of the
    aggregate from 1. ``position`` numbers those of the store from 1 and is 0 until the event is
    stored.
    """

    id: UUID
    name: str
    time: datetime
    aggregate: AggregateRef
    version: int
    data: D_co
    metadata: Metadata = Metadata()
    position: int = 0

    @classmethod
    def new(
        cls,
        aggregate: AggregateRef,
        *,
        version: int,
        data: D,
        metadata: Metadata | None = None,
        time: datetime | None = None,
        id: UUID | None = None,  # the fixed interface's word, as in the envelope
    ) -> Event[D]:
        """An event that is not stored yet, by default of now and with a new id.

        Raises ``ValueError`` for a version below 1 or a time without a time zone.
        """
        if version < 1:
            raise ValueError(f"versions begin at 1, not {version}")
        if time is None:
            time = datetime.now(UTC)
        elif time.tzinfo is None:
            raise ValueError("an event's time needs a time zone")
        else:
            time = time.astimezone(UTC)
        return Event(
            id or new_id(),
            data.wire.name,
            time,
            aggregate,
            version,
            data,
            metadata or Metadata(),
        )

    def at(self, position: int) -> Event[D_co]:
        """The same event, stored at a position."""
        return msgspec.structs.replace(self, position=position)


def new_id() -> UUID:
    """A new UUID of version 7 (RFC 9562, section 5.7).

    It begins with the time in milliseconds, so that ids made one after the other lie side by side
    in an index; 74 random bits keep ids of one millisecond apart. Ids are no secrets: from some,
    others may be guessed. (The system's generator would cost each call, besides its own time, a
    turn at the interpreter's lock. Python's is seeded by it, in each process anew.)
    """
    milliseconds = clock.time_ns() // 1_000_000
    number = milliseconds << 80 | random.getrandbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0b11 << 62) | 0b10 << 62
    # A third of the time that UUID(int=number) takes.
    return msgspec.convert(number.to_bytes(16), UUID)
