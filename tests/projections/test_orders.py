"""Order summaries, and the orders of each customer: two projections with the same models."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shop.config import Settings
from shop.domain.customer import RenameCustomer
from shop.domain.order import LineItem
from shop.domain.pricing import AddDiscount, SetPrice
from shop.domain.product import RenameProduct
from shop.eventsourcing import Filter, ModelReader
from shop.eventsourcing.models.model import IndexValue
from shop.projections.order_summary import CustomerName, OrderEntry
from tests.projections.trader import Trader

pytestmark = pytest.mark.parametrize("projection", ["order_summary", "customer_order_history"])


def test_an_order_is_shown_with_its_items_and_total(trader: Trader, projection: str) -> None:
    mouse, cable = trader.product("Mouse", 1000), trader.product("Cable", 500)
    trader.do(AddDiscount("Launch", 10), mouse)
    ada = trader.customer()
    order = trader.order(ada, (mouse, 2), (cable, 1))
    items = LineItem(mouse, "Mouse", 900, 2), LineItem(cable, "Cable", 500, 1)
    shown = trader.reader(projection).get(OrderEntry, order).value
    assert shown == OrderEntry(
        order, ada, items, "open", 2300, trader.placed(order), due(trader, order)
    )


def test_an_order_shows_names_and_prices_of_when_it_was_placed(
    trader: Trader, projection: str
) -> None:
    mouse, ada = trader.product("Mouse", 1000), trader.customer()
    order = trader.order(ada, (mouse, 2))
    trader.do(RenameProduct("Rat"), mouse)
    trader.do(SetPrice(5000), mouse)
    shown = trader.reader(projection).get(OrderEntry, order).value
    items = (LineItem(mouse, "Mouse", 1000, 2),)
    assert shown == OrderEntry(
        order, ada, items, "open", 2000, trader.placed(order), due(trader, order)
    )


def due(trader: Trader, order: UUID) -> datetime:
    return trader.placed(order) + timedelta(seconds=Settings().payment_deadline)


def test_an_order_has_its_deadline_as_long_as_it_is_open(trader: Trader, projection: str) -> None:
    mouse, ada = trader.product("Mouse", 1000), trader.customer()
    orders = [trader.order(ada, (mouse, 1)) for _ in range(3)]
    open, paid, cancelled = orders
    models = trader.reader(projection)
    for order in orders:
        entry = models.get(OrderEntry, order).value
        assert entry is not None
        assert entry.deadline == due(trader, order)
    trader.pay(paid)
    trader.cancel(cancelled)
    models = trader.reader(projection)
    entries = [models.get(OrderEntry, order).value for order in orders]
    deadlines = [entry.deadline for entry in entries if entry is not None]
    assert deadlines == [due(trader, open), None, None]


def test_the_status_of_an_order_is_shown(trader: Trader, projection: str) -> None:
    mouse, ada = trader.product(), trader.customer()
    open, paid, cancelled = [trader.order(ada, (mouse, 1)) for _ in range(3)]
    trader.pay(paid)
    trader.cancel(cancelled)
    reader = trader.reader(projection)
    statuses = {order: status(reader, order) for order in (open, paid, cancelled)}
    assert statuses == {open: "open", paid: "paid", cancelled: "cancelled"}


def test_the_name_of_a_customer_follows_a_renaming(trader: Trader, projection: str) -> None:
    ada = trader.customer("Ada")
    assert trader.reader(projection).get(CustomerName, ada).value == CustomerName("Ada")
    trader.do(RenameCustomer("Ada King"), ada)
    assert trader.reader(projection).get(CustomerName, ada).value == CustomerName("Ada King")


def test_the_orders_of_a_customer_are_listed_newest_first(trader: Trader, projection: str) -> None:
    mouse, ada, eve = trader.product(), trader.customer("Ada"), trader.customer("Eve")
    orders = []
    for _ in range(3):
        orders.append(trader.order(ada, (mouse, 1)))
        trader.order(eve, (mouse, 1))
    trader.pay(orders[0])
    assert listed(trader.reader(projection), customer_id=ada) == orders[::-1]


def test_a_customer_without_orders_has_an_empty_list(trader: Trader, projection: str) -> None:
    trader.order(trader.customer(), (trader.product(), 1))
    assert listed(trader.reader(projection), customer_id=trader.customer("Eve")) == []
    assert listed(trader.reader(projection), customer_id=uuid4()) == []


def test_orders_are_listed_by_the_status_that_they_have_now(
    trader: Trader, projection: str
) -> None:
    mouse, ada, eve = trader.product(), trader.customer("Ada"), trader.customer("Eve")
    first, second, third = [trader.order(who, (mouse, 1)) for who in (ada, eve, ada)]
    trader.pay(first)
    trader.pay(second)
    reader = trader.reader(projection)
    assert listed(reader, status="open") == [third]
    assert listed(reader, status="paid") == [second, first]
    assert listed(reader, status="cancelled") == []
    assert listed(reader, status="paid", customer_id=ada) == [first]


def status(reader: ModelReader, order: UUID) -> str | None:
    shown = reader.get(OrderEntry, order).value
    return shown.status if shown else None


def listed(reader: ModelReader, **equal: IndexValue) -> list[UUID]:
    found = reader.find(OrderEntry, Filter(equal=equal, reverse=True))
    return [keyed.model.order_id for keyed in found.value]
