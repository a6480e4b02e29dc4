"""The JSON shapes of answers that are not read models themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from shop.domain.customer import Address
from shop.domain.order import LineItem, Status
from shop.eventsourcing import CommandResult, Event, EventData, Metadata
from shop.projections.order_summary import OrderEntry

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a listing. ``next`` is the cursor that continues it, null at its end."""

    items: list[T]
    next: str | None


class Order(msgspec.Struct, frozen=True):
    """An order, with the name that its customer has now.

    An open one is cancelled at its `deadline`, unless it is paid before; others have none. A
    cancelled one has a `reason`.
    """

    order_id: UUID
    customer_id: UUID
    customer_name: str
    items: tuple[LineItem, ...]
    status: Status
    total: int
    deadline: datetime | None
    reason: str | None

    @classmethod
    def of(cls, entry: OrderEntry, customer_name: str, payment_deadline: float) -> Order:
        """The order of a read model.

        In the moment until its deadline is set, the one that is to be expected: so many seconds
        from its placing.
        """
        deadline = entry.deadline
        if deadline is None and entry.status == "open":
            deadline = entry.placed + timedelta(seconds=payment_deadline)
        return cls(
            entry.order_id,
            entry.customer_id,
            customer_name,
            entry.items,
            entry.status,
            entry.total,
            deadline,
            entry.reason,
        )


class OrderHistory(msgspec.Struct, frozen=True):
    """The orders of a customer, newest first. ``next`` is the cursor that continues them."""

    customer_id: UUID
    customer_name: str
    orders: list[Order]
    next: str | None


class CustomerDetails(msgspec.Struct, frozen=True):
    """A customer."""

    id: UUID
    name: str
    email: str
    addresses: list[Address]


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
