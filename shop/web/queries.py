"""Reads of products, customers, orders and stats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from shop.domain.customer import Customer
from shop.domain.order import Status
from shop.eventsourcing import Filter, WorkflowEntry, WorkflowList, WorkflowStatus
from shop.eventsourcing.models.model import IndexValue
from shop.projections.customer_order_history import CustomerOrderHistory
from shop.projections.order_summary import CustomerName, OrderEntry, OrderSummary
from shop.projections.product_catalog import CatalogProduct, ProductCatalog
from shop.projections.shop_stats import STATS_ID, ShopStats, Stats
from shop.runtime import Shop
from shop.web.reading import Answer, Listing, NoQuery, PageQuery, Read, given
from shop.web.shapes import CustomerDetails, Order, OrderHistory, Page


class OrdersQuery(PageQuery, frozen=True, kw_only=True):
    """Which orders."""

    customer: Annotated[UUID, Meta(description="Only of the customer with this id")] | UnsetType = (
        UNSET
    )
    status: Annotated[Status, Meta(description="Only with this status")] | UnsetType = UNSET


class WorkflowsQuery(PageQuery, frozen=True, kw_only=True):
    """Which workflows."""

    status: Annotated[WorkflowStatus, Meta(description="Only with this status")] | UnsetType = UNSET


def list_products(shop: Shop, query: PageQuery) -> Answer:
    """The catalog: all products, oldest first."""
    reader = shop.reader(ProductCatalog.name)
    position, products, next = Listing(query).models(reader, CatalogProduct)
    return Answer(Page(products, next), position)


def get_product(shop: Shop, query: NoQuery, id: UUID) -> Answer:
    """One product, with its price."""
    found = shop.reader(ProductCatalog.name).get(CatalogProduct, id)
    return Answer(found.value, found.position)


def list_orders(shop: Shop, query: OrdersQuery) -> Answer:
    """Orders, newest first."""
    equal = given(customer_id=query.customer, status=query.status)
    position, orders, next = _orders(shop, OrderSummary.name, Listing(query), equal)
    return Answer(Page(orders, next), position)


def get_order(shop: Shop, query: NoQuery, id: UUID) -> Answer:
    """One order."""
    reader = shop.reader(OrderSummary.name)
    found = reader.get(OrderEntry, id)
    if found.value is None:
        return Answer(None, found.position)
    name = reader.get(CustomerName, found.value.customer_id).value
    order = Order.of(found.value, name.name if name else "", shop.payment_deadline)
    return Answer(order, found.position)


def get_customer(shop: Shop, query: NoQuery, id: UUID) -> Answer:
    """One customer."""
    customer = shop.aggregates.load(Customer, id)
    if not customer.exists:
        return Answer(None)
    return Answer(CustomerDetails(id, customer.name, customer.email, customer.addresses))


def list_customer_orders(shop: Shop, query: PageQuery, id: UUID) -> Answer:
    """A customer's orders, newest first."""
    reader = shop.reader(CustomerOrderHistory.name)
    customer = reader.get(CustomerName, id)
    if customer.value is None:
        return Answer(None, customer.position)
    position, orders, next = _orders(
        shop, CustomerOrderHistory.name, Listing(query), {"customer_id": id}
    )
    return Answer(OrderHistory(id, customer.value.name, orders, next), position)


def list_workflows(shop: Shop, query: WorkflowsQuery) -> Answer:
    """Workflows, newest first: how far each is, its pending timers, and why it is parked."""
    reader = shop.reader(WorkflowList.name)
    equal = given(status=query.status)
    position, entries, next = Listing(query).models(
        reader, WorkflowEntry, equal=equal, reverse=True
    )
    return Answer(Page(entries, next), position)


def get_stats(shop: Shop, query: NoQuery) -> Answer:
    """Figures of the whole shop."""
    found = shop.reader(ShopStats.name).get(Stats, STATS_ID)
    return Answer(found.value or Stats(), found.position)


def _orders(
    shop: Shop, projection: str, listing: Listing, equal: Mapping[str, IndexValue]
) -> tuple[int, list[Order], str | None]:
    """The position read at, a page of orders, and the cursor of the next one."""
    reader = shop.reader(projection)
    position, entries, next = listing.models(reader, OrderEntry, equal=equal, reverse=True)
    ids = frozenset(str(entry.customer_id) for entry in entries)
    customers = reader.find(CustomerName, Filter(ids=ids, limit=len(ids))).value
    names = {customer.key[1]: customer.model.name for customer in customers}
    orders = [
        Order.of(entry, names.get(str(entry.customer_id), ""), shop.payment_deadline)
        for entry in entries
    ]
    return position, orders, next


READS = (
    Read(
        path="/products",
        answer=list_products,
        shape=Page[CatalogProduct],
        query=PageQuery,
        projection=ProductCatalog.name,
    ),
    Read(
        path="/products/<id>",
        answer=get_product,
        shape=CatalogProduct,
        projection=ProductCatalog.name,
    ),
    Read(
        path="/orders",
        answer=list_orders,
        shape=Page[Order],
        query=OrdersQuery,
        projection=OrderSummary.name,
    ),
    Read(path="/orders/<id>", answer=get_order, shape=Order, projection=OrderSummary.name),
    Read(path="/customers/<id>", answer=get_customer, shape=CustomerDetails),
    Read(
        path="/customers/<id>/orders",
        answer=list_customer_orders,
        shape=OrderHistory,
        query=PageQuery,
        projection=CustomerOrderHistory.name,
    ),
    Read(
        path="/workflows",
        answer=list_workflows,
        shape=Page[WorkflowEntry],
        query=WorkflowsQuery,
        projection=WorkflowList.name,
    ),
    Read(path="/stats", answer=get_stats, shape=Stats, projection=ShopStats.name),
)
