"""What the shop shows over HTTP, besides its events and workflows: one file for each resource."""

from __future__ import annotations

from collections.abc import Sequence

from shop.application import Read
from shop.reads import customers, products, stats
from shop.reads.orders import OrderReads

__all__ = ["reads"]


def reads(payment_deadline: float) -> Sequence[Read]:
    """All reads of the shop.

    ``payment_deadline`` is how many seconds after its placing an order is cancelled when unpaid.
    """
    return (
        *products.READS,
        *OrderReads(payment_deadline).all,
        *customers.READS,
        *stats.READS,
    )
