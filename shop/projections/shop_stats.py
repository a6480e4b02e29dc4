"""Figures of the whole shop."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from shop.domain.order import OrderCancelled, OrderPaid, OrderPlaced
from shop.domain.product import ProductCreated
from shop.eventsourcing import Event, EventData, ModelSession, Projection, ReadModel, handles

STATS_ID = "shop"


class Stats(ReadModel, frozen=True):
    """How the shop is doing; revenue is what was paid, in minor units."""

    total_products: int = 0
    total_orders: int = 0
    total_revenue: int = 0
    cancelled_orders: int = 0


class ShopStats(Projection):
    """Counts products and orders, and adds up what was paid."""

    name = "shop_stats"
    models = (Stats,)

    def model_ids(self, event: Event[EventData]) -> Iterable[str]:
        """Always the same."""
        return (STATS_ID,)

    @handles(ProductCreated)
    def product_created(self, event: Event[ProductCreated], models: ModelSession) -> None:
        _add(models, total_products=1)

    @handles(OrderPlaced)
    def order_placed(self, event: Event[OrderPlaced], models: ModelSession) -> None:
        _add(models, total_orders=1)

    @handles(OrderPaid)
    def order_paid(self, event: Event[OrderPaid], models: ModelSession) -> None:
        _add(models, total_revenue=event.data.amount)

    @handles(OrderCancelled)
    def order_cancelled(self, event: Event[OrderCancelled], models: ModelSession) -> None:
        _add(models, cancelled_orders=1)


def _add(models: ModelSession, **figures: int) -> None:
    stats = models.get(Stats, STATS_ID) or Stats()
    sums = {name: getattr(stats, name) + figure for name, figure in figures.items()}
    models.put(STATS_ID, msgspec.structs.replace(stats, **sums))
