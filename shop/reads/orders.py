"""Reads of orders, from the order summaries and the customers' histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shop.application import Answer, NoQuery, PageQuery, Read
from shop.domain.order import LineItem, Status
from shop.domain.order import Order as OrderAggregate
from shop.eventsourcing import Filter, ModelReader
from shop.eventsourcing.models.model import IndexValue
from shop.projections.customer_order_history import CustomerOrderHistory
from shop.projections.order_summary import CustomerName, OrderEntry, OrderSummary
from shop.runtime import Shop
from shop.web.listing import Listing, Page, given


class OrdersQuery(PageQuery, frozen=True, kw_only=True):
    """Which orders."""

    customer: Annotated[UUID, Meta(description="Only of the customer with this id")] | UnsetType = (
        UNSET
    )
    status: Annotated[Status, Meta(description="Only with this status")] | UnsetType = UNSET


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


class OrderHistory(msgspec.Struct, frozen=True):
    """The orders of a customer, newest first. ``next`` is the cursor that continues them."""

    customer_id: UUID
    customer_name: str
    orders: list[Order]
    next: str | None


class OrderReads:
    """The reads of orders that are cancelled so many seconds after their placing when unpaid."""

    def __init__(self, payment_deadline: float) -> None:
        self._payment_deadline = timedelta(seconds=payment_deadline)

    @property
    def all(self) -> Sequence[Read]:
        """All of them."""
        return (
            Read(
                path="/orders",
                answer=self.list_orders,
                shape=Page[Order],
                query=OrdersQuery,
                projection=OrderSummary.name,
            ),
            Read(
                path="/orders/<id>",
                answer=self.get_order,
                shape=Order,
                projection=OrderSummary.name,
                aggregate=OrderAggregate.kind,
            ),
            Read(
                path="/customers/<id>/orders",
                answer=self.list_customer_orders,
                shape=OrderHistory,
                query=PageQuery,
                projection=CustomerOrderHistory.name,
            ),
        )

    def list_orders(self, shop: Shop, query: OrdersQuery) -> Answer:
        """Orders, newest first."""
        equal = given(customer_id=query.customer, status=query.status)
        position, orders, next = self._page(shop.reader(OrderSummary.name), Listing(query), equal)
        return Answer(Page(orders, next), position)

    def get_order(self, shop: Shop, query: NoQuery, id: UUID) -> Answer:
        """One order."""
        reader = shop.reader(OrderSummary.name)
        found = reader.get(OrderEntry, id)
        if found.value is None:
            return Answer(None, found.position)
        name = reader.get(CustomerName, found.value.customer_id).value
        return Answer(self._order(found.value, name), found.position)

    def list_customer_orders(self, shop: Shop, query: PageQuery, id: UUID) -> Answer:
        """A customer's orders, newest first."""
        reader = shop.reader(CustomerOrderHistory.name)
        customer = reader.get(CustomerName, id)
        if customer.value is None:
            return Answer(None, customer.position)
        position, orders, next = self._page(reader, Listing(query), {"customer_id": id})
        return Answer(OrderHistory(id, customer.value.name, orders, next), position)

    def _page(
        self, reader: ModelReader, listing: Listing, equal: Mapping[str, IndexValue]
    ) -> tuple[int, list[Order], str | None]:
        """The position read at, a page of orders, and the cursor of the next one."""
        position, entries, next = listing.models(reader, OrderEntry, equal=equal, reverse=True)
        ids = frozenset(str(entry.customer_id) for entry in entries)
        customers = reader.find(CustomerName, Filter(ids=ids, limit=len(ids))).value
        names = {customer.key[1]: customer.model for customer in customers}
        orders = [self._order(entry, names.get(str(entry.customer_id))) for entry in entries]
        return position, orders, next

    def _order(self, entry: OrderEntry, customer: CustomerName | None) -> Order:
        """The order of a read model.

        In the moment until its deadline is set, the one that is to be expected.
        """
        deadline = entry.deadline
        if deadline is None and entry.status == "open":
            deadline = entry.placed + self._payment_deadline
        return Order(
            entry.order_id,
            entry.customer_id,
            customer.name if customer else "",
            entry.items,
            entry.status,
            entry.total,
            deadline,
            entry.reason,
        )
