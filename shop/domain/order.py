"""Orders: what a customer buys, at the prices of the moment, with the stock reserved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from shop.domain.customer import Customer
from shop.domain.pricing import Pricing
from shop.domain.product import Product
from shop.domain.values import Amount, Quantity, Reason
from shop.eventsourcing import (
    Aggregate,
    CommandPayload,
    CommandRejected,
    EventData,
    Module,
    UnitOfWork,
    aggregate,
    applies,
    command,
    event,
)

Status = Literal["open", "paid", "cancelled"]


class LineItem(msgspec.Struct, frozen=True):
    """So many pieces of a product, at a price for each."""

    product_id: UUID
    name: str
    price: int
    quantity: int


def total(items: Sequence[LineItem]) -> int:
    """What the items cost together."""
    return sum(item.price * item.quantity for item in items)


@event("shop.order.placed")
class OrderPlaced(EventData, frozen=True):
    """A customer ordered items, and they were reserved. Prices are those of one piece."""

    customer_id: UUID
    items: tuple[LineItem, ...]


@event("shop.order.paid")
class OrderPaid(EventData, frozen=True):
    """An order was paid in full."""

    amount: int


@event("shop.order.cancelled")
class OrderCancelled(EventData, frozen=True):
    """An order was called off, and its items went back to the stock."""

    reason: str


@aggregate("shop.order")
class Order(Aggregate):
    """An order: open until it is paid or cancelled."""

    customer_id: UUID | None = None
    items: tuple[LineItem, ...] = ()
    status: Status = "open"

    @property
    def total(self) -> int:
        """What is to be paid."""
        return total(self.items)

    def place(self, customer_id: UUID, items: Sequence[LineItem]) -> None:
        """Order the items."""
        if self.exists:
            raise CommandRejected("order-placed", f"order {self.id} was placed before")
        self.record(OrderPlaced(customer_id, tuple(items)))

    def pay(self, amount: int) -> None:
        """Pay all of it at once."""
        self._check_open("paid")
        if amount != self.total:
            raise CommandRejected(
                "amount-wrong", f"order {self.id} costs {self.total}, not {amount}"
            )
        self.record(OrderPaid(amount))

    def cancel(self, reason: str) -> None:
        """Call it off."""
        self._check_open("cancelled")
        self.record(OrderCancelled(reason))

    def _check_open(self, wanted: str) -> None:
        if self.status != "open":
            raise CommandRejected(
                f"order-{self.status}",
                f"order {self.id} is {self.status} and cannot be {wanted} any more",
            )

    @applies(OrderPlaced)
    def _placed(self, data: OrderPlaced) -> None:
        self.customer_id = data.customer_id
        self.items = data.items

    @applies(OrderPaid)
    def _paid(self, data: OrderPaid) -> None:
        self.status = "paid"

    @applies(OrderCancelled)
    def _cancelled(self, data: OrderCancelled) -> None:
        self.status = "cancelled"


class RequestedItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """So many pieces of a product. ``price`` is the price of a piece that the buyer was shown."""

    product_id: UUID
    quantity: Quantity
    price: Amount | None = None


@command("shop.order.place", creates=True)
class PlaceOrder(CommandPayload, frozen=True):
    """Order products at their current prices, and reserve them.

    An item's price, where given, must be the current one: nobody pays what he was not shown.
    """

    customer_id: UUID
    items: Annotated[tuple[RequestedItem, ...], Meta(min_length=1, max_length=100)]


@command("shop.order.pay")
class PayOrder(CommandPayload, frozen=True):
    """Pay an order, exactly its total."""

    amount: Amount


@command("shop.order.cancel")
class CancelOrder(CommandPayload, frozen=True):
    """Call an order off and return its items to the stock."""

    reason: Reason


def _handle_place(payload: PlaceOrder, id: UUID, work: UnitOfWork) -> None:
    order = work.find(Order, id)
    if not work.find(Customer, payload.customer_id).exists:
        raise CommandRejected(
            "customer-unknown", f"there is no customer {payload.customer_id}: register first"
        )
    quantities: Counter[UUID] = Counter()
    for wanted in payload.items:
        quantities[wanted.product_id] += wanted.quantity
    items = [_line_item(product_id, n, work) for product_id, n in quantities.items()]
    _check_shown_prices(payload.items, items)
    order.place(payload.customer_id, items)
    for item in items:
        work.get(Product, item.product_id).reserve(item.quantity, id)


def _check_shown_prices(wanted: Sequence[RequestedItem], items: Sequence[LineItem]) -> None:
    """Raise :class:`CommandRejected` where the buyer was shown another price than the current."""
    prices = {item.product_id: item.price for item in items}
    for shown in wanted:
        price = prices[shown.product_id]
        if shown.price not in {None, price}:
            raise CommandRejected(
                "price-changed", f"product {shown.product_id} now costs {price}, not {shown.price}"
            )


def _line_item(product_id: UUID, quantity: int, work: UnitOfWork) -> LineItem:
    product, pricing = work.find(Product, product_id), work.find(Pricing, product_id)
    if not product.exists:
        raise CommandRejected("product-unknown", f"there is no product {product_id}")
    if not pricing.exists:
        raise CommandRejected("price-unknown", f"product {product_id} has no price")
    return LineItem(product_id, product.name, pricing.current_price, quantity)


def _handle_pay(payload: PayOrder, id: UUID, work: UnitOfWork) -> None:
    work.get(Order, id).pay(payload.amount)


def _handle_cancel(payload: CancelOrder, id: UUID, work: UnitOfWork) -> None:
    order = work.get(Order, id)
    order.cancel(payload.reason)
    for item in order.items:
        work.get(Product, item.product_id).release(item.quantity, id)


MODULE = Module(
    aggregates=(Order,),
    handlers={PlaceOrder: _handle_place, PayOrder: _handle_pay, CancelOrder: _handle_cancel},
)
