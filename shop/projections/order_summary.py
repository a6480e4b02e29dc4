"""Order summaries: every order with its items, status and total, and who placed it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from shop.domain.customer import CustomerRegistered, CustomerRenamed
from shop.domain.order import LineItem, OrderCancelled, OrderPaid, OrderPlaced, Status, total
from shop.domain.payment_workflow import DEADLINE, Payment
from shop.eventsourcing import (
    Event,
    ModelSession,
    Projection,
    ReadModel,
    TimerSet,
    handles,
)


class CustomerName(ReadModel, frozen=True):
    """The name of a customer. Kept apart, so that a renaming changes one model, not each order."""

    name: str


class OrderEntry(ReadModel, frozen=True):
    """An order, all but its customer's name.

    ``deadline`` is when it will be cancelled, once that is settled, as long as it is open;
    ``reason`` is why it was.
    """

    indexes: ClassVar[tuple[str, ...]] = ("customer_id", "status")

    order_id: UUID
    customer_id: UUID
    items: tuple[LineItem, ...]
    status: Status
    total: int
    placed: datetime
    deadline: datetime | None = None
    reason: str | None = None


class OrderSummary(Projection):
    """Follows orders, and the names of those who placed them."""

    name = "order_summary"
    models = (OrderEntry, CustomerName)

    @handles(OrderPlaced)
    def placed(self, event: Event[OrderPlaced], models: ModelSession) -> None:
        data = event.data
        order = OrderEntry(
            event.aggregate.id,
            data.customer_id,
            data.items,
            "open",
            total(data.items),
            event.time,
        )
        models.put(order.order_id, order)

    @handles(OrderPaid)
    def paid(self, event: Event[OrderPaid], models: ModelSession) -> None:
        _close(event.aggregate.id, "paid", None, models)

    @handles(OrderCancelled)
    def cancelled(self, event: Event[OrderCancelled], models: ModelSession) -> None:
        _close(event.aggregate.id, "cancelled", event.data.reason, models)

    @handles(TimerSet)
    def deadline_set(self, event: Event[TimerSet], models: ModelSession) -> None:
        if event.aggregate.name != Payment.kind or event.data.timer != DEADLINE:
            return
        order = _order(event.aggregate.id, models)
        if order.status == "open":
            models.put(order.order_id, msgspec.structs.replace(order, deadline=event.data.due))

    @handles(CustomerRegistered, CustomerRenamed)
    def named(
        self, event: Event[CustomerRegistered] | Event[CustomerRenamed], models: ModelSession
    ) -> None:
        models.put(event.aggregate.id, CustomerName(event.data.name))


def _close(order_id: UUID, status: Status, reason: str | None, models: ModelSession) -> None:
    closed = msgspec.structs.replace(
        _order(order_id, models), status=status, deadline=None, reason=reason
    )
    models.put(order_id, closed)


def _order(order_id: UUID, models: ModelSession) -> OrderEntry:
    order = models.get(OrderEntry, order_id)
    if order is None:
        raise LookupError(f"order {order_id} was never placed")
    return order
