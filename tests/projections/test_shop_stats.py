"""The figures of the whole shop."""

from __future__ import annotations

from shop.domain.pricing import SetPrice
from shop.projections.shop_stats import STATS_ID, Stats
from tests.projections.trader import Trader


def shown(trader: Trader) -> Stats | None:
    return trader.reader("shop_stats").get(Stats, STATS_ID).value


def test_a_shop_without_events_has_no_figures(trader: Trader) -> None:
    assert shown(trader) is None


def test_products_and_orders_are_counted(trader: Trader) -> None:
    mouse, _ = trader.product(), trader.product()
    ada = trader.customer()
    for _ in range(3):
        trader.order(ada, (mouse, 1))
    assert shown(trader) == Stats(total_products=2, total_orders=3)


def test_revenue_is_what_was_paid_at_the_prices_of_then(trader: Trader) -> None:
    mouse, ada = trader.product(price=1000), trader.customer()
    order = trader.order(ada, (mouse, 2))
    trader.order(ada, (mouse, 3))
    trader.do(SetPrice(9000), mouse)
    trader.pay(order)
    assert shown(trader) == Stats(total_products=1, total_orders=2, total_revenue=2000)


def test_a_cancelled_order_is_counted_as_such_and_stays_an_order(trader: Trader) -> None:
    mouse, ada = trader.product(), trader.customer()
    trader.cancel(trader.order(ada, (mouse, 2)))
    assert shown(trader) == Stats(total_products=1, total_orders=1, cancelled_orders=1)
