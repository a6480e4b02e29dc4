"""Reads of the log: events by position, and by aggregate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from shop.application import Answer, NoQuery, PageQuery, Read
from shop.eventsourcing import AggregateRef, Event, EventData, Query
from shop.eventsourcing.events.ordinal import GREATEST
from shop.runtime import Shop
from shop.web.fields import WIRE_NAME, WireName
from shop.web.listing import Listing, Page
from shop.web.shapes import StoredEvent


class EventsQuery(PageQuery, frozen=True, kw_only=True):
    """Which events."""

    after: Annotated[
        int, Meta(ge=0, le=GREATEST, description="Only events at greater positions")
    ] = 0
    name: Annotated[
        list[WireName], Meta(description="Only events of this name; may be given several times")
    ] = []
    aggregate: (
        Annotated[WireName, Meta(description="Only of this kind of aggregate")] | UnsetType
    ) = UNSET
    aggregate_id: (
        Annotated[UUID, Meta(description="Only of the aggregates with this id")] | UnsetType
    ) = UNSET


def list_events(shop: Shop, query: EventsQuery) -> Answer:
    """The log: all events, by position."""
    listing = Listing(query)
    after = listing.after[0] if listing.after else query.after
    events = list(
        shop.store.read(
            Query(
                names=query.name or None,
                aggregates=None if query.aggregate is UNSET else [query.aggregate],
                aggregate_ids=None if query.aggregate_id is UNSET else [query.aggregate_id],
                after=after,
                limit=listing.fetch,
            )
        )
    )
    return Answer(_page(events, listing))


def get_event(shop: Shop, query: NoQuery, id: UUID) -> Answer:
    """One event."""
    event = next(shop.store.read(Query(ids=[id], limit=1)), None)
    return Answer(event and StoredEvent.of(event))


def list_stream(shop: Shop, query: PageQuery, aggregate: str, id: UUID) -> Answer:
    """The events of one aggregate, by version. The entity tag is the aggregate's version."""
    if not re.fullmatch(WIRE_NAME, aggregate):
        return Answer(None)
    listing = Listing(query)
    refs = [AggregateRef(aggregate, id)]
    latest = next(shop.store.read(Query(refs=refs, reverse=True, limit=1)), None)
    if latest is None:
        return Answer(None)
    after = listing.after[0] if listing.after else 0
    events = list(
        shop.store.read(Query(refs=refs, after=after, to=latest.position, limit=listing.fetch))
    )
    return Answer(_page(events, listing), etag=str(latest.version))


def _page(events: Sequence[Event[EventData]], listing: Listing) -> Page[StoredEvent]:
    shown, next = listing.page(events, lambda event: (event.position, ""))
    return Page([StoredEvent.of(event) for event in shown], next)


READS = (
    Read(path="/events", answer=list_events, shape=Page[StoredEvent], query=EventsQuery),
    Read(path="/events/<id>", answer=get_event, shape=StoredEvent),
    Read(
        path="/streams/<aggregate>/<id>",
        answer=list_stream,
        shape=Page[StoredEvent],
        query=PageQuery,
    ),
)
