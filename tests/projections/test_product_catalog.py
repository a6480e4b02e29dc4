"""The catalog shows each product as it is now."""

from __future__ import annotations

from uuid import UUID, uuid4

from shop.domain.pricing import AddDiscount, Discount, SetPrice
from shop.domain.product import AdjustStock, RenameProduct
from shop.eventsourcing import Filter
from shop.projections.product_catalog import CatalogProduct
from tests.projections.trader import Trader


def shown(trader: Trader, product: UUID) -> CatalogProduct | None:
    return trader.reader("product_catalog").get(CatalogProduct, product).value


def test_a_product_is_shown_with_its_price_and_stock(trader: Trader) -> None:
    mouse = trader.product("Mouse", 2999, 50)
    assert shown(trader, mouse) == CatalogProduct(mouse, "Mouse", 2999, (), 2999, 50)


def test_nothing_is_shown_of_what_was_not_created(trader: Trader) -> None:
    trader.product()
    assert shown(trader, uuid4()) is None


def test_a_product_is_shown_under_its_new_name(trader: Trader) -> None:
    mouse = trader.product("Mouse", 2999, 50)
    trader.do(RenameProduct("Rat"), mouse)
    assert shown(trader, mouse) == CatalogProduct(mouse, "Rat", 2999, (), 2999, 50)


def test_discounts_are_shown_and_taken_off_the_price(trader: Trader) -> None:
    mouse = trader.product("Mouse", 1001, 50)
    trader.do(AddDiscount("Launch", 10), mouse)
    trader.do(AddDiscount("Friends", 40), mouse)
    discounts = Discount("Launch", 10), Discount("Friends", 40)
    assert shown(trader, mouse) == CatalogProduct(mouse, "Mouse", 1001, discounts, 501, 50)


def test_a_new_price_keeps_the_discounts(trader: Trader) -> None:
    mouse = trader.product("Mouse", 1000, 50)
    trader.do(AddDiscount("Launch", 10), mouse)
    trader.do(SetPrice(2000), mouse)
    discounts = (Discount("Launch", 10),)
    assert shown(trader, mouse) == CatalogProduct(mouse, "Mouse", 2000, discounts, 1800, 50)


def test_the_stock_follows_adjustments_orders_and_cancellations(trader: Trader) -> None:
    mouse, ada = trader.product(stock=50), trader.customer()
    trader.do(AdjustStock(-8, "broken"), mouse)
    assert stock(trader, mouse) == 42
    order = trader.order(ada, (mouse, 3))
    assert stock(trader, mouse) == 39
    trader.cancel(order)
    assert stock(trader, mouse) == 42


def test_products_are_listed_in_the_order_in_which_they_were_created(trader: Trader) -> None:
    products = [trader.product(name) for name in ("Mouse", "Cable", "Adapter")]
    trader.do(RenameProduct("Another mouse"), products[0])
    listed = trader.reader("product_catalog").find(CatalogProduct, Filter()).value
    assert [keyed.model.id for keyed in listed] == products


def stock(trader: Trader, product: UUID) -> int | None:
    found = shown(trader, product)
    return found.stock if found else None
