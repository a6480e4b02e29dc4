"""Prices, and the percentages that come off them."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop.domain.pricing import (
    MOST_DISCOUNTS,
    AddDiscount,
    Discount,
    DiscountAdded,
    Pricing,
    PricingSet,
    SetPrice,
    discounted,
)
from shop.eventsourcing import AggregateNotFoundError, AggregateRef
from shop.eventsourcing.testing import Scenario, aggregate_after

mouse = AggregateRef("shop.pricing", uuid4())


def test_the_price_changes(scenario: Scenario) -> None:
    scenario.given(mouse, PricingSet(2999))
    scenario.when(SetPrice(1999), mouse).then(mouse, PricingSet(1999))


def test_the_price_that_it_has_is_no_change(scenario: Scenario) -> None:
    scenario.given(mouse, PricingSet(2999))
    scenario.when(SetPrice(2999), mouse).then_nothing()


def test_a_discount_is_added(scenario: Scenario) -> None:
    scenario.given(mouse, PricingSet(2999))
    scenario.when(AddDiscount("Launch", 10), mouse).then(mouse, DiscountAdded("Launch", 10))


def test_the_same_discount_counts_each_time_it_is_added(scenario: Scenario) -> None:
    scenario.given(mouse, PricingSet(1000), DiscountAdded("Launch", 10))
    scenario.when(AddDiscount("Launch", 10), mouse).then(mouse, DiscountAdded("Launch", 10))
    assert scenario.aggregates.load(Pricing, mouse.id).current_price == 800


def test_discounts_stay_when_the_price_changes() -> None:
    pricing = aggregate_after(Pricing, PricingSet(1000), DiscountAdded("Launch", 10))
    pricing.set_price(2000)
    assert pricing.current_price == 1800


def test_the_number_of_discounts_has_a_bound(scenario: Scenario) -> None:
    added = [DiscountAdded(f"Discount {n}", 1) for n in range(MOST_DISCOUNTS - 1)]
    scenario.given(mouse, PricingSet(2999), *added)
    scenario.when(AddDiscount("Last", 1), mouse).then(mouse, DiscountAdded("Last", 1))
    scenario.when(AddDiscount("One more", 1), mouse).then_rejected("discounts-exhausted")


def test_what_has_no_price_has_no_discounts_either(scenario: Scenario) -> None:
    scenario.when(AddDiscount("Launch", 10), mouse).then_raised(AggregateNotFoundError)
    scenario.when(SetPrice(2999), mouse).then_raised(AggregateNotFoundError)


@pytest.mark.parametrize(
    ("price", "percents", "current"),
    [
        (2999, [], 2999),
        (2999, [10], 2699),
        (1000, [10, 20], 700),  # of the full price each, not of what the other left
        (1, [50], 1),  # half a unit is rounded up
        (3, [50], 2),
        (1, [51], 0),
        (1000, [100], 0),
        (1000, [60, 60], 0),  # never below nothing
    ],
)
def test_discounts_come_off_the_price(price: int, percents: list[int], current: int) -> None:
    assert discounted(price, [Discount("", percent) for percent in percents]) == current


@given(price=st.integers(1, 10**10), percents=st.lists(st.integers(1, 100), max_size=8))
def test_a_discounted_price_is_the_exact_one_rounded_half_up(
    price: int, percents: list[int]
) -> None:
    exact = max(Fraction(0), price * (1 - Fraction(sum(percents), 100)))
    rounded = floor(exact + Fraction(1, 2))
    assert discounted(price, [Discount("", percent) for percent in percents]) == rounded
