"""The whole shop on every kind of store."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from shop.bootstrap import Application, bootstrap, open_event_store
from shop.config import Settings
from shop.domain.customer import RegisterCustomer
from shop.domain.order import CancelOrder, PayOrder, PlaceOrder, RequestedItem
from shop.domain.product import CreateProduct, Product
from shop.eventsourcing import (
    Aggregate,
    Command,
    CommandPayload,
    CommandRejected,
    Event,
    EventData,
    Module,
    Registry,
    Repository,
    Shadow,
    StoreFormatError,
    aggregate,
    applies,
    event,
)
from shop.projections.shop_stats import STATS_ID, Stats
from shop.runtime import Shop
from shop.stores import check_readable
from tests.notebook import Counted, Noted, note
from tests.stores import DURABLE, KINDS


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


@pytest.fixture(params=DURABLE)
def kept(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store that outlives whoever opened it, of each kind in turn."""
    return DURABLE[request.param](request)()


@event("notebook.noted")
class Renamed(EventData, frozen=True):
    """A field has another name, and the version is the old one."""

    words: str


@event("notebook.noted", version=2, upcasters={1: lambda old: {"words": old["text"]}})
class Evolved(EventData, frozen=True):
    words: str


@event("notebook.noted", version=2, upcasters={1: lambda old: old})
class Forgotten(EventData, frozen=True):
    """The upcaster does not do what it must."""

    words: str


def keep(url: str, *contents: EventData) -> None:
    """Store one event after the other, by programs that know no class but that of theirs."""
    for data in contents:
        with open_event_store(url, Registry([type(data)])) as store:
            store.append([Event.new(note(), version=1, data=data)])


@pytest.mark.parametrize(
    ("contents", "known", "position"),
    [
        ([Counted(1), Noted("a"), Noted("b")], Renamed, 2),
        ([Counted(1), Noted("a"), Evolved("b")], Forgotten, 2),
        ([Renamed("a"), Counted(1), Noted("b")], Renamed, 3),
    ],
    ids=["all", "the oldest", "the newest"],
)
def test_events_that_no_longer_fit_their_class_are_named_with_what_to_do(
    kept: str, contents: list[EventData], known: type[EventData], position: int
) -> None:
    keep(kept, *contents)
    registry = Registry[EventData]([known, Counted])
    with open_event_store(kept, registry) as store, pytest.raises(StoreFormatError) as refused:
        check_readable(store, registry, kept)
    [told] = re.findall(r"cannot read: (.*?)\. Add", str(refused.value))
    assert f"(notebook.noted) at position {position}: " in told
    assert "Object missing required field `words`" in told
    assert "raise its version and add an upcaster" in str(refused.value)


def test_events_that_were_evolved_are_readable(kept: str) -> None:
    keep(kept, Noted("a"), Evolved("b"), Counted(1))
    registry = Registry[EventData]([Evolved, Counted])
    with open_event_store(kept, registry) as store:
        check_readable(store, registry, kept)


@aggregate("notebook.page")
class Page(Aggregate):
    words: str = ""

    @applies(Renamed)
    def _renamed(self, data: Renamed) -> None:
        self.words = data.words


def test_an_application_whose_events_were_changed_does_not_start(kept: str) -> None:
    keep(kept, Noted("a"))
    application = Application([Module(aggregates=(Page,))])
    with pytest.raises(StoreFormatError, match="words"):
        bootstrap(Settings(event_store=kept), application=application)
