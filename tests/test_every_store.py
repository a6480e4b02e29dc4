"""The whole shop on every kind of store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.domain.customer import RegisterCustomer
from shop.domain.order import CancelOrder, PayOrder, PlaceOrder, RequestedItem
from shop.domain.product import CreateProduct, Product
from shop.eventsourcing import Command, CommandPayload, CommandRejected, Repository, Shadow
from shop.projections.shop_stats import STATS_ID, Stats
from shop.runtime import Shop
from tests.stores import KINDS


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store, of each kind in turn."""
    return KINDS[request.param](request)()


def done(shop: Shop, payload: CommandPayload, id: UUID | None = None) -> UUID:
    return shop.commands.dispatch(Command.new(payload, id)).aggregate.id


def business(shop: Shop) -> None:
    """Many buy what there is not enough of; whoever got some pays, or calls it off again."""
    mouse = done(shop, CreateProduct("Mouse", 2999, 10))

    def buy(number: int) -> str:
        ada = done(shop, RegisterCustomer("Ada", f"{number}-{mouse}@example.org"))
        try:
            order = done(shop, PlaceOrder(ada, (RequestedItem(mouse, 2),)))
        except CommandRejected as refusal:
            return refusal.code
        if number % 2:
            done(shop, PayOrder(5998), order)
            return "paid"
        done(shop, CancelOrder("changed her mind"), order)
        return "cancelled"

    with ThreadPoolExecutor(4) as buyers:
        outcomes = list(buyers.map(buy, range(12)))
    paid = outcomes.count("paid")
    assert Repository(shop.aggregates, Product).get(mouse).stock == 10 - 2 * paid
    assert set(outcomes) <= {"paid", "cancelled", "stock-insufficient"}
    assert shop.wait_for(shop.store.head(), 20)
    stats = shop.reader("shop_stats").get(Stats, STATS_ID).value
    assert stats is not None
    assert stats.cancelled_orders == outcomes.count("cancelled")
    assert stats.total_revenue == 5998 * paid


def test_a_shop_keeps_its_promises_wherever_it_is_kept(url: str) -> None:
    with bootstrap(Settings(event_store=url)) as shop:
        business(shop)
        for runner in shop.projections.values():
            with Shadow(runner.projection, shop.store, shop.models) as shadow:
                assert shadow.differences() == []


def test_events_and_read_models_may_be_kept_apart(url: str, request: pytest.FixtureRequest) -> None:
    elsewhere = KINDS["sqlite"](request)()
    for events, models in ((url, elsewhere), (KINDS["memory"](request)(), url)):
        with bootstrap(Settings(event_store=events, model_store=models)) as shop:
            business(shop)
