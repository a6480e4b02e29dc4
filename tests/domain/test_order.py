"""Orders: placed at the prices of the moment, paid in full or called off."""

from __future__ import annotations

from uuid import uuid4

import pytest

from shop.domain.customer import CustomerRegistered
from shop.domain.order import (
    CancelOrder,
    LineItem,
    Order,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    PayOrder,
    PlaceOrder,
    RequestedItem,
)
from shop.domain.pricing import DiscountAdded, PricingSet
from shop.domain.product import Product, ProductCreated, StockAdjusted
from shop.domain.values import MOST_STOCK
from shop.eventsourcing import AggregateNotFoundError, AggregateRef
from shop.eventsourcing.testing import Scenario

ada = AggregateRef("shop.customer", uuid4())
mouse = AggregateRef("shop.product", uuid4())
mouse_pricing = AggregateRef("shop.pricing", mouse.id)
cable = AggregateRef("shop.product", uuid4())
cable_pricing = AggregateRef("shop.pricing", cable.id)
order = AggregateRef("shop.order", uuid4())

two_mice = LineItem(mouse.id, "Mouse", 900, 2)
one_cable = LineItem(cable.id, "Cable", 500, 1)
reserved, cancelled = f"order {order.id} placed", f"order {order.id} cancelled"


@pytest.fixture
def open_shop(scenario: Scenario) -> Scenario:
    """Five mice at 1000 less ten percent, one cable at 500, and Ada."""
    return scenario.given(
        *(mouse, ProductCreated("Mouse", 5)),
        *(mouse_pricing, PricingSet(1000), DiscountAdded("Launch", 10)),
        *(cable, ProductCreated("Cable", 1)),
        *(cable_pricing, PricingSet(500)),
        *(ada, CustomerRegistered("Ada", "ada@example.org")),
    )


@pytest.fixture
def ordered(open_shop: Scenario) -> Scenario:
    """Two mice and the cable were ordered, for 2300."""
    return open_shop.given(
        *(order, OrderPlaced(ada.id, (two_mice, one_cable))),
        *(mouse, StockAdjusted(-2, reserved)),
        *(cable, StockAdjusted(-1, reserved)),
    )


def place(*items: RequestedItem) -> PlaceOrder:
    return PlaceOrder(ada.id, items)


def test_an_order_takes_names_and_discounted_prices_of_the_moment_and_reserves_its_items(
    open_shop: Scenario,
) -> None:
    open_shop.when(place(RequestedItem(mouse.id, 2), RequestedItem(cable.id, 1)), order)
    open_shop.then(
        *(order, OrderPlaced(ada.id, (two_mice, one_cable))),
        *(mouse, StockAdjusted(-2, reserved)),
        *(cable, StockAdjusted(-1, reserved)),
    )


def test_a_product_asked_for_twice_becomes_one_item(open_shop: Scenario) -> None:
    open_shop.when(place(RequestedItem(mouse.id, 1), RequestedItem(mouse.id, 1)), order)
    open_shop.then(order, OrderPlaced(ada.id, (two_mice,)), mouse, StockAdjusted(-2, reserved))


def test_a_product_asked_for_twice_is_not_ordered_beyond_the_stock(open_shop: Scenario) -> None:
    open_shop.when(place(RequestedItem(mouse.id, 3), RequestedItem(mouse.id, 3)), order)
    open_shop.then_rejected("stock-insufficient")


def test_the_last_pieces_can_be_ordered_and_no_more(open_shop: Scenario) -> None:
    open_shop.when(place(RequestedItem(mouse.id, 6)), order).then_rejected("stock-insufficient")
    open_shop.when(place(RequestedItem(mouse.id, 5)), order)
    assert open_shop.result.events
    assert open_shop.aggregates.load(Product, mouse.id).stock == 0


def test_an_order_is_placed_whole_or_not_at_all(open_shop: Scenario) -> None:
    open_shop.when(place(RequestedItem(mouse.id, 1), RequestedItem(cable.id, 2)), order)
    open_shop.then_rejected("stock-insufficient")
    assert open_shop.aggregates.load(Product, mouse.id).stock == 5
    assert not open_shop.aggregates.load(Order, order.id).exists


def test_the_price_that_the_buyer_saw_may_come_along(open_shop: Scenario) -> None:
    open_shop.when(place(RequestedItem(mouse.id, 2, 900)), order)
    open_shop.then(order, OrderPlaced(ada.id, (two_mice,)), mouse, StockAdjusted(-2, reserved))


@pytest.mark.parametrize("shown", [899, 901, 1000, 0])
def test_nobody_pays_a_price_that_he_was_not_shown(open_shop: Scenario, shown: int) -> None:
    open_shop.when(place(RequestedItem(mouse.id, 2, shown)), order).then_rejected("price-changed")


def test_each_price_that_came_along_is_looked_at(open_shop: Scenario) -> None:
    items = RequestedItem(mouse.id, 1, 900), RequestedItem(mouse.id, 1, 1000)
    open_shop.when(place(*items), order).then_rejected("price-changed")


def test_what_costs_nothing_after_discounts_is_ordered_and_paid_with_nothing(
    open_shop: Scenario,
) -> None:
    open_shop.given(cable_pricing, DiscountAdded("Gift", 100))
    open_shop.when(place(RequestedItem(cable.id, 1, 0)), order)
    open_shop.when(PayOrder(0), order).then(order, OrderPaid(0))


def test_only_customers_order(open_shop: Scenario) -> None:
    stranger = PlaceOrder(uuid4(), (RequestedItem(mouse.id, 1),))
    open_shop.when(stranger, order).then_rejected("customer-unknown")


def test_only_products_are_ordered(open_shop: Scenario) -> None:
    open_shop.when(place(RequestedItem(uuid4(), 1)), order).then_rejected("product-unknown")


def test_what_has_no_price_is_not_ordered(open_shop: Scenario) -> None:
    sample = AggregateRef("shop.product", uuid4())
    open_shop.given(sample, ProductCreated("Sample", 5))
    open_shop.when(place(RequestedItem(sample.id, 1)), order).then_rejected("price-unknown")


def test_an_order_is_placed_once(ordered: Scenario) -> None:
    ordered.when(place(RequestedItem(mouse.id, 1)), order).then_rejected("order-placed")


def test_an_order_is_paid_with_its_total(ordered: Scenario) -> None:
    ordered.when(PayOrder(2300), order).then(order, OrderPaid(2300))


@pytest.mark.parametrize("amount", [0, 2299, 2301])
def test_an_order_is_paid_with_nothing_else(ordered: Scenario, amount: int) -> None:
    ordered.when(PayOrder(amount), order).then_rejected("amount-wrong")


def test_an_order_keeps_its_price_when_the_product_gets_another(ordered: Scenario) -> None:
    ordered.given(mouse_pricing, PricingSet(5000))
    ordered.when(PayOrder(2300), order).then(order, OrderPaid(2300))


def test_a_paid_order_is_neither_paid_nor_cancelled(ordered: Scenario) -> None:
    ordered.given(order, OrderPaid(2300))
    ordered.when(PayOrder(2300), order).then_rejected("order-paid")
    ordered.when(CancelOrder("changed my mind"), order).then_rejected("order-paid")


def test_cancelling_an_order_returns_its_items_in_the_same_commit(ordered: Scenario) -> None:
    ordered.when(CancelOrder("changed my mind"), order)
    ordered.then(
        *(order, OrderCancelled("changed my mind")),
        *(mouse, StockAdjusted(2, cancelled)),
        *(cable, StockAdjusted(1, cancelled)),
    )


def test_items_return_even_beyond_the_bound_of_the_stock(ordered: Scenario) -> None:
    ordered.given(mouse, StockAdjusted(MOST_STOCK - 3, "delivery"))
    ordered.when(CancelOrder("changed my mind"), order)
    assert ordered.result.events
    assert ordered.aggregates.load(Product, mouse.id).stock == MOST_STOCK + 2


def test_a_cancelled_order_is_neither_paid_nor_cancelled(ordered: Scenario) -> None:
    ordered.given(order, OrderCancelled("changed my mind"))
    ordered.when(PayOrder(2300), order).then_rejected("order-cancelled")
    ordered.when(CancelOrder("once more"), order).then_rejected("order-cancelled")


def test_what_was_never_ordered_is_neither_paid_nor_cancelled(open_shop: Scenario) -> None:
    open_shop.when(PayOrder(2300), order).then_raised(AggregateNotFoundError)
    open_shop.when(CancelOrder("changed my mind"), order).then_raised(AggregateNotFoundError)
