"""Products: created once, renamed, and never less than none of them in stock."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

from shop.domain.pricing import PricingSet
from shop.domain.product import (
    AdjustStock,
    CreateProduct,
    Product,
    ProductCreated,
    ProductRenamed,
    RenameProduct,
    StockAdjusted,
)
from shop.domain.values import MOST_STOCK
from shop.eventsourcing import AggregateNotFoundError, AggregateRef, Command
from shop.eventsourcing.testing import Scenario
from shop.runtime import Shop
from tests.domain.threads import at_once

mouse = AggregateRef("shop.product", uuid4())
mouse_pricing = AggregateRef("shop.pricing", mouse.id)


def test_a_product_is_created_together_with_its_price(scenario: Scenario) -> None:
    scenario.when(CreateProduct("Mouse", 2999, 50), mouse)
    scenario.then(mouse, ProductCreated("Mouse", 50), mouse_pricing, PricingSet(2999))


def test_a_product_may_be_created_before_there_is_any_in_stock(scenario: Scenario) -> None:
    scenario.when(CreateProduct("Mouse", 2999, 0), mouse)
    scenario.then(mouse, ProductCreated("Mouse", 0), mouse_pricing, PricingSet(2999))


def test_a_product_is_created_once(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", 50), mouse_pricing, PricingSet(2999))
    scenario.when(CreateProduct("Mouse", 2999, 50), mouse).then_rejected("product-exists")


def test_a_product_is_renamed(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", 50))
    scenario.when(RenameProduct("Rat"), mouse).then(mouse, ProductRenamed("Rat"))


def test_the_name_that_a_product_has_is_no_change(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", 50), ProductRenamed("Rat"))
    scenario.when(RenameProduct("Rat"), mouse).then_nothing()


def test_pieces_come_into_the_stock_and_leave_it(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", 5))
    scenario.when(AdjustStock(3, "delivery"), mouse).then(mouse, StockAdjusted(3, "delivery"))
    scenario.when(AdjustStock(-8, "sold"), mouse).then(mouse, StockAdjusted(-8, "sold"))
    assert scenario.aggregates.load(Product, mouse.id).stock == 0


def test_no_more_pieces_leave_the_stock_than_are_in_it(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", 5))
    scenario.when(AdjustStock(-6, "sold"), mouse).then_rejected("stock-insufficient")


def test_no_pieces_more_or_less_are_no_change(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", 5))
    scenario.when(AdjustStock(0, "counted again"), mouse).then_nothing()


def test_the_stock_has_a_bound(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", MOST_STOCK - 1))
    scenario.when(AdjustStock(1, "delivery"), mouse).then(mouse, StockAdjusted(1, "delivery"))
    scenario.when(AdjustStock(1, "delivery"), mouse).then_rejected("stock-excessive")


def test_pieces_leave_a_stock_that_is_beyond_its_bound(scenario: Scenario) -> None:
    scenario.given(mouse, ProductCreated("Mouse", MOST_STOCK), StockAdjusted(5, "order cancelled"))
    scenario.when(AdjustStock(-1, "sold"), mouse).then(mouse, StockAdjusted(-1, "sold"))
    scenario.when(AdjustStock(0, "counted again"), mouse).then_nothing()


def test_what_was_never_created_cannot_change(scenario: Scenario) -> None:
    scenario.when(RenameProduct("Rat"), mouse).then_raised(AggregateNotFoundError)
    scenario.when(AdjustStock(1, "delivery"), mouse).then_raised(AggregateNotFoundError)


def test_threads_that_take_the_last_pieces_never_take_more(shop: Shop) -> None:
    shop.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 5), mouse.id))

    outcomes = at_once([partial(shop.commands.dispatch, take_one()) for _ in range(12)])

    assert sorted(outcomes) == ["done"] * 5 + ["stock-insufficient"] * 7
    assert shop.aggregates.load(Product, mouse.id).stock == 0


def test_threads_that_create_one_product_create_it_once(shop: Shop) -> None:
    outcomes = at_once(
        [
            partial(shop.commands.dispatch, Command.new(CreateProduct("Mouse", 2999, n), mouse.id))
            for n in range(8)
        ]
    )

    assert sorted(outcomes) == ["done"] + ["product-exists"] * 7
    assert shop.store.head() == 2


def take_one() -> Command[AdjustStock]:
    return Command.new(AdjustStock(-1, "sold"), mouse.id)
