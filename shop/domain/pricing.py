"""Pricing: what a product costs. It has the id of its product, and a stream of its own."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec

from shop.domain.values import Name, Percent, Price
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

MOST_DISCOUNTS = 100


@event("shop.pricing.set")
class PricingSet(EventData, frozen=True):
    """A product costs this much from now on, before discounts."""

    price: int


@event("shop.pricing.discount_added")
class DiscountAdded(EventData, frozen=True):
    """A percentage came off the price."""

    label: str
    percent: int


class Discount(msgspec.Struct, frozen=True):
    """A percentage off the price."""

    label: str
    percent: int


def discounted(price: int, discounts: Iterable[Discount]) -> int:
    """The price less all discounts, in whole minor units.

    Percentages add up, to 100 at the most, and each is one of the full price. Half a unit is
    rounded up.
    """
    left = max(0, 100 - sum(discount.percent for discount in discounts))
    return (price * left + 50) // 100


@aggregate("shop.pricing")
class Pricing(Aggregate):
    """The price of a product, and at most :data:`MOST_DISCOUNTS` discounts on it."""

    price: int = 0
    discounts: list[Discount] = []

    @property
    def current_price(self) -> int:
        """What a buyer pays for one piece."""
        return discounted(self.price, self.discounts)

    def set_price(self, price: int) -> None:
        """Change the price; discounts stay."""
        if price != self.price:
            self.record(PricingSet(price))

    def add_discount(self, label: str, percent: int) -> None:
        """Take a percentage off, besides earlier discounts."""
        if len(self.discounts) >= MOST_DISCOUNTS:
            raise CommandRejected(
                "discounts-exhausted", f"a product has at most {MOST_DISCOUNTS} discounts"
            )
        self.record(DiscountAdded(label, percent))

    @applies(PricingSet)
    def _set(self, data: PricingSet) -> None:
        self.price = data.price

    @applies(DiscountAdded)
    def _discount_added(self, data: DiscountAdded) -> None:
        self.discounts.append(Discount(data.label, data.percent))


@command("shop.pricing.set_price")
class SetPrice(CommandPayload, frozen=True):
    """Change the price of a product."""

    price: Price


@command("shop.pricing.add_discount")
class AddDiscount(CommandPayload, frozen=True):
    """Add a discount on a product."""

    label: Name
    percent: Percent


def _handle_set_price(payload: SetPrice, id: UUID, work: UnitOfWork) -> None:
    work.get(Pricing, id).set_price(payload.price)


def _handle_add_discount(payload: AddDiscount, id: UUID, work: UnitOfWork) -> None:
    work.get(Pricing, id).add_discount(payload.label, payload.percent)


MODULE = Module(
    aggregates=(Pricing,),
    handlers={SetPrice: _handle_set_price, AddDiscount: _handle_add_discount},
)
