"""A made-up application's events, for tests of what stores and carries events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from shop.eventsourcing import AggregateRef, Event, EventData, Registry, event


@event("notebook.noted")
class Noted(EventData, frozen=True):
    text: str


@event("notebook.counted")
class Counted(EventData, frozen=True):
    number: int


AnyEvent = Event[EventData]


def registry() -> Registry[EventData]:
    return Registry[EventData]([Noted, Counted])


def note() -> AggregateRef:
    """A new aggregate's reference."""
    return AggregateRef("notebook.note", uuid4())


def noted(
    ref: AggregateRef,
    version: int,
    text: str = "a note",
    *,
    time: datetime | None = None,
    id: UUID | None = None,
) -> AnyEvent:
    return Event.new(ref, version=version, data=Noted(text), time=time, id=id)


def counted(
    ref: AggregateRef, version: int, number: int = 1, *, time: datetime | None = None
) -> AnyEvent:
    return Event.new(ref, version=version, data=Counted(number), time=time)


def stream(ref: AggregateRef, count: int, *, after: int = 0) -> list[AnyEvent]:
    """The next so many events of one aggregate."""
    return [noted(ref, version) for version in range(after + 1, after + count + 1)]


def positions(events: Iterable[AnyEvent]) -> list[int]:
    return [event.position for event in events]


def stored(events: Sequence[AnyEvent], first: int = 1) -> list[AnyEvent]:
    """The events as they are read back when the first was stored at that position."""
    return [event.at(position) for position, event in enumerate(events, first)]
