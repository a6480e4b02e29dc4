"""Orders while others order, pay, cancel and change prices, on each kind of store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.domain import order as orders
from shop.domain.customer import RegisterCustomer
from shop.domain.order import CancelOrder, Order, PayOrder, PlaceOrder, RequestedItem
from shop.domain.pricing import AddDiscount, SetPrice
from shop.domain.product import AdjustStock, CreateProduct, Product, RenameProduct
from shop.eventsourcing import (
    Command,
    CommandBus,
    CommandPayload,
    CommandRejected,
    Query,
    UnitOfWork,
)
from shop.runtime import Shop
from tests.domain.threads import at_once, in_another_thread

ada, mouse, cable = uuid4(), uuid4(), uuid4()


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """Five mice at 1000, five cables at 500, and Ada."""
    do(shop, RegisterCustomer("Ada", "ada@example.org"), ada)
    do(shop, CreateProduct("Mouse", 1000, 5), mouse)
    do(shop, CreateProduct("Cable", 500, 5), cable)
    return shop


def do(shop: Shop, payload: CommandPayload, id: UUID) -> None:
    shop.commands.dispatch(Command.new(payload, id))


def place(*products: UUID, shown: int | None = None) -> PlaceOrder:
    return PlaceOrder(ada, tuple(RequestedItem(product, 1, shown) for product in products))


def stock(shop: Shop, product: UUID) -> int:
    return shop.aggregates.load(Product, product).stock


def place_while(shop: Shop, payload: PlaceOrder, id: UUID, meanwhile: Callable[[], None]) -> None:
    """Place an order; between the handler's last look and the commit, another thread comes in."""
    place_order = orders.MODULE.handlers[PlaceOrder]
    came = False

    def handle(payload: PlaceOrder, id: UUID, work: UnitOfWork) -> None:
        nonlocal came
        place_order(payload, id, work)
        if not came:
            came = True
            in_another_thread(meanwhile)

    module = msgspec.structs.replace(orders.MODULE, handlers={PlaceOrder: handle})
    CommandBus(shop.store, shop.aggregates, [module]).dispatch(Command.new(payload, id))
    assert came


@pytest.mark.parametrize("change", [SetPrice(1200), AddDiscount("Launch", 10)], ids=str)
def test_a_price_that_changes_before_the_commit_does_not_slip_through(
    shop: Shop, change: CommandPayload
) -> None:
    order = uuid4()

    with pytest.raises(CommandRejected) as refusal:
        place_while(shop, place(mouse, shown=1000), order, lambda: do(shop, change, mouse))

    assert refusal.value.code == "price-changed"
    assert not shop.aggregates.load(Order, order).exists
    assert stock(shop, mouse) == 5


def test_a_buyer_who_was_shown_no_price_gets_the_one_at_the_commit(shop: Shop) -> None:
    order = uuid4()
    place_while(shop, place(mouse), order, lambda: do(shop, SetPrice(1200), mouse))
    assert shop.aggregates.load(Order, order).total == 1200


def test_a_name_that_changes_before_the_commit_is_the_one_ordered(shop: Shop) -> None:
    order = uuid4()
    place_while(shop, place(mouse), order, lambda: do(shop, RenameProduct("Rat"), mouse))
    assert [item.name for item in shop.aggregates.load(Order, order).items] == ["Rat"]


def test_pieces_that_are_taken_before_the_commit_are_not_ordered(shop: Shop) -> None:
    order = uuid4()

    with pytest.raises(CommandRejected) as refusal:
        place_while(shop, place(mouse), order, lambda: do(shop, AdjustStock(-5, "sold"), mouse))

    assert refusal.value.code == "stock-insufficient"
    assert stock(shop, mouse) == 0


def test_threads_that_order_the_last_pieces_never_get_more(shop: Shop) -> None:
    outcomes = at_once([partial(do, shop, place(mouse), uuid4()) for _ in range(12)])

    assert sorted(outcomes) == ["done"] * 5 + ["stock-insufficient"] * 7
    assert stock(shop, mouse) == 0
    assert len(list(shop.store.read(Query(names=["shop.order.placed"])))) == 5


def test_orders_of_the_same_products_in_another_order_do_not_block_each_other(shop: Shop) -> None:
    pairs = [(mouse, cable), (cable, mouse)] * 4

    outcomes = at_once([partial(do, shop, place(*pair), uuid4()) for pair in pairs])

    assert sorted(outcomes) == ["done"] * 5 + ["stock-insufficient"] * 3
    assert (stock(shop, mouse), stock(shop, cable)) == (0, 0)


def test_threads_that_place_one_order_place_it_once(shop: Shop) -> None:
    order = uuid4()
    outcomes = at_once([partial(do, shop, place(mouse), order) for _ in range(8)])
    assert sorted(outcomes) == ["done"] + ["order-placed"] * 7
    assert stock(shop, mouse) == 4


def test_threads_that_pay_and_cancel_an_order_do_one_of_it_once(shop: Shop) -> None:
    order = uuid4()
    do(shop, place(mouse), order)
    payments = [partial(do, shop, PayOrder(1000), order)] * 4
    cancellations = [partial(do, shop, CancelOrder("changed my mind"), order)] * 4

    outcomes = at_once([*payments, *cancellations])

    paid = "done" in outcomes[:4]
    assert sorted(outcomes) == ["done"] + ["order-paid" if paid else "order-cancelled"] * 7
    assert shop.aggregates.load(Order, order).status == ("paid" if paid else "cancelled")
    assert stock(shop, mouse) == (4 if paid else 5)
