"""After any business, read models show what aggregates know: two ways from the log to an answer."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from math import floor
from random import Random
from uuid import UUID

import pytest

from shop.config import Settings
from shop.domain.customer import Customer
from shop.domain.order import Order
from shop.domain.pricing import Pricing
from shop.domain.product import Product
from shop.eventsourcing import Filter, ModelReader, ReadModel
from shop.projections.order_summary import CustomerName, OrderEntry
from shop.projections.product_catalog import CatalogProduct
from shop.projections.shop_stats import STATS_ID, Stats
from shop.runtime import Shop
from tests.projections.trader import Trader

pytestmark = pytest.mark.parametrize("seed", range(3))


@pytest.fixture
def trader(trader: Trader, seed: int) -> Trader:
    """A trader who has done business at random, while projections followed."""
    trader.trade(Random(seed), 150)
    statuses = {trader.shop.aggregates.load(Order, order).status for order in trader.orders}
    assert statuses == {"open", "paid", "cancelled"}
    return trader


def test_the_catalog_shows_all_products(trader: Trader) -> None:
    expected = [catalogued(trader.shop, product) for product in trader.products]
    assert all_of(trader.reader("product_catalog"), CatalogProduct) == expected


def test_the_stats_count_everything_once(trader: Trader) -> None:
    orders = [trader.shop.aggregates.load(Order, order) for order in trader.orders]
    expected = Stats(
        total_products=len(trader.products),
        total_orders=len(orders),
        total_revenue=sum(order.total for order in orders if order.status == "paid"),
        cancelled_orders=sum(order.status == "cancelled" for order in orders),
    )
    assert trader.reader("shop_stats").get(Stats, STATS_ID).value == expected


@pytest.mark.parametrize("projection", ["order_summary", "customer_order_history"])
def test_orders_and_the_names_of_customers_are_shown(trader: Trader, projection: str) -> None:
    reader = trader.reader(projection)
    expected = [summarised(trader, order) for order in trader.orders]
    assert all_of(reader, OrderEntry) == expected
    names = [trader.shop.aggregates.load(Customer, id).name for id in trader.customers]
    assert all_of(reader, CustomerName) == [CustomerName(name) for name in names]


def catalogued(shop: Shop, id: UUID) -> CatalogProduct:
    product, pricing = shop.aggregates.load(Product, id), shop.aggregates.load(Pricing, id)
    off = Fraction(sum(discount.percent for discount in pricing.discounts), 100)
    current_price = floor(max(Fraction(0), pricing.price * (1 - off)) + Fraction(1, 2))
    discounts = tuple(pricing.discounts)
    return CatalogProduct(id, product.name, pricing.price, discounts, current_price, product.stock)


def summarised(trader: Trader, id: UUID) -> OrderEntry:
    order = trader.shop.aggregates.load(Order, id)
    assert order.customer_id is not None
    total = sum(item.price * item.quantity for item in order.items)
    placed = trader.placed(id)
    due = placed + timedelta(seconds=Settings().payment_deadline)
    deadline = due if order.status == "open" else None
    reason = "not wanted" if order.status == "cancelled" else None
    return OrderEntry(
        id, order.customer_id, order.items, order.status, total, placed, deadline, reason
    )


def all_of(reader: ModelReader, model: type[ReadModel]) -> list[ReadModel]:
    """All models of a kind, oldest first."""
    return [keyed.model for keyed in reader.find(model, Filter(limit=1000)).value]
