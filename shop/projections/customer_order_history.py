"""Customer order history: all orders of a customer, newest first."""

from __future__ import annotations

from shop.projections.order_summary import OrderSummary


class CustomerOrderHistory(OrderSummary):
    """Keeps orders as the order summaries do, for listing them by customer.

    A projection of its own: it has its own thread, checkpoint and models, so that either can be
    paused, rebuilt or changed without the other.
    """

    name = "customer_order_history"
