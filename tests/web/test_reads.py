"""Reads: pages, positions and entity tags."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from shop.backends.memory import MemoryModelStore
from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.runtime import Shop
from shop.web import create_app
from tests.web.shopper import Shopper, answered, problem


def pages(shopper: Shopper, path: str, limit: int, *, key: str = "items") -> Iterator[list[Any]]:
    """The items of each page, to the end of the listing."""
    cursor = ""
    while True:
        page = answered(shopper.get(f"{path}limit={limit}&cursor={cursor}"))
        yield page[key]
        if page["next"] is None:
            return
        cursor = page["next"]


def test_products_come_oldest_first_page_by_page(shopper: Shopper) -> None:
    ids = [shopper.product() for _ in range(5)]
    shopper.current("/products")
    listed = [[item["id"] for item in page] for page in pages(shopper, "/products?", 2)]
    assert listed == [ids[:2], ids[2:4], ids[4:]]


def test_a_full_last_page_is_known_to_be_the_last(shopper: Shopper) -> None:
    for _ in range(4):
        shopper.product()
    shopper.current("/products")
    assert [len(page) for page in pages(shopper, "/products?", 2)] == [2, 2]


def test_a_page_has_fifty_items_unless_told(shopper: Shopper) -> None:
    for _ in range(51):
        shopper.product()
    page = shopper.current("/products")
    assert len(page["items"]) == 50
    assert page["next"]


def test_orders_come_newest_first_with_their_customers_name(shopper: Shopper) -> None:
    mouse, ada, bob = shopper.product(), shopper.customer("Ada"), shopper.customer("Bob")
    orders = [shopper.order(customer, mouse) for customer in (ada, bob, ada)]
    listed = shopper.current("/orders")["items"]
    assert [order["order_id"] for order in listed] == orders[::-1]
    assert [order["customer_name"] for order in listed] == ["Ada", "Bob", "Ada"]


def test_the_names_of_many_customers_are_read_together(
    client: Shopper, memory_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    mouse = client.product()
    names = [f"Customer {n}" for n in range(20)]
    for name in names:
        client.order(client.customer(name), mouse)
    client.current("/orders")
    for workflow in memory_shop.workflows.values():
        assert workflow.close(5)  # it looks for timers once a second
    reads: list[str] = []
    for read in ("get", "find"):
        count_calls(monkeypatch, MemoryModelStore, read, reads)
    listed = answered(client.get("/orders"))["items"]
    assert [order["customer_name"] for order in listed] == names[::-1]
    assert reads == ["find", "find"]


def count_calls(monkeypatch: pytest.MonkeyPatch, cls: type, name: str, calls: list[str]) -> None:
    method = getattr(cls, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return method(*args, **kwargs)

    monkeypatch.setattr(cls, name, counted)


def test_orders_are_found_by_customer_and_status(shopper: Shopper) -> None:
    mouse, ada, bob = shopper.product(price=10), shopper.customer(), shopper.customer()
    first, second, third = (shopper.order(customer, mouse) for customer in (ada, ada, bob))
    shopper.done("shop.order.pay", {"amount": 10}, first)

    def found(query: str) -> list[str]:
        return [order["order_id"] for order in shopper.current(f"/orders?{query}")["items"]]

    assert found(f"customer={ada}") == [second, first]
    assert found("status=open") == [third, second]
    assert found(f"customer={ada}&status=paid") == [first]
    assert found(f"customer={uuid4()}") == []


def test_an_order_history_is_paged_newest_first(shopper: Shopper) -> None:
    mouse, ada = shopper.product(), shopper.customer("Ada")
    orders = [shopper.order(ada, mouse) for _ in range(3)]
    shopper.order(shopper.customer("Bob"), mouse)
    shopper.current(f"/customers/{ada}/orders")
    listed = [
        [order["order_id"] for order in page]
        for page in pages(shopper, f"/customers/{ada}/orders?", 2, key="orders")
    ]
    assert listed == [[orders[2], orders[1]], [orders[0]]]


def test_a_customer_without_orders_has_an_empty_history(shopper: Shopper) -> None:
    ada = shopper.customer("Ada")
    assert shopper.current(f"/customers/{ada}/orders") == {
        "customer_id": ada,
        "customer_name": "Ada",
        "orders": [],
        "next": None,
    }


@pytest.mark.parametrize(
    "path",
    ["/products/{}", "/orders/{}", "/customers/{}", "/customers/{}/orders", "/events/{}"],
)
def test_what_does_not_exist_is_404(shopper: Shopper, path: str) -> None:
    answer = shopper.get(path.format(uuid4()))
    assert problem(answer) == (404, "not-found")
    assert answer.headers["Shop-Position"] == "0"


def test_stats_of_an_empty_shop_are_zero(shopper: Shopper) -> None:
    assert set(shopper.current("/stats").values()) == {0}


@pytest.mark.parametrize("path", ["/products", "/orders", "/stats"])
def test_a_shop_can_be_read_before_its_projections_have_begun(
    settings: Settings, path: str
) -> None:
    shop = bootstrap(settings)
    try:
        assert Shopper(create_app(shop)).get(path).status_code == 200
    finally:
        shop.close()


def test_a_cursor_is_good_for_its_own_listing_only(shopper: Shopper) -> None:
    mouse, ada = shopper.product(), shopper.customer()
    shopper.product()
    shopper.order(ada, mouse)
    shopper.order(ada, mouse)
    shopper.current("/orders")
    shopper.current("/products")
    cursors = [
        answered(shopper.get(f"{path}limit=1"))["next"]
        for path in ("/products?", "/orders?", f"/orders?customer={ada}&", "/events?")
    ]
    assert all(cursors)
    for path, own in (("/products?", 0), ("/orders?", 1), ("/orders?status=open&", None)):
        for number, cursor in enumerate(cursors):
            answer = shopper.get(f"{path}cursor={cursor}")
            assert answer.status_code == (200 if number == own else 400)


def test_a_listing_read_during_writes_misses_nothing_and_repeats_nothing(
    shopper: Shopper,
) -> None:
    products = [shopper.product() for _ in range(4)]
    shopper.current("/products")
    seen = []
    for page in pages(shopper, "/products?", 2):
        seen += [item["id"] for item in page]
        if len(products) < 6:
            products.append(shopper.product())
        shopper.done("shop.product.adjust_stock", {"quantity": 1, "reason": "found"}, products[0])
        shopper.current("/products")
    assert seen == products


def test_orders_placed_meanwhile_do_not_shift_the_pages_of_older_ones(shopper: Shopper) -> None:
    mouse, ada = shopper.product(), shopper.customer()
    orders = [shopper.order(ada, mouse) for _ in range(4)]
    shopper.current("/orders")
    seen = []
    for page in pages(shopper, "/orders?", 2):
        seen += [item["order_id"] for item in page]
        shopper.order(ada, mouse)
        shopper.done("shop.order.cancel", {"reason": "no"}, orders[len(seen) - 1])
        shopper.current("/orders")
    assert seen == orders[::-1]


def test_a_read_tells_the_position_it_stands_at(shopper: Shopper) -> None:
    shopper.product()
    head = shopper.get("/events").headers["Shop-Position"]
    assert head == "2"
    for path in ("/products", "/orders", "/stats"):
        answer = shopper.get(path, shop_min_position=head, prefer="wait=10")
        assert answer.headers["Shop-Position"] == head


def test_a_read_shows_what_the_position_asked_for_had(shopper: Shopper) -> None:
    for _ in range(20):
        result = shopper.done("shop.product.create", {"name": "M", "price": 1, "stock": 1})
        position = str(result["position"])
        path = f"/products/{result['aggregate_id']}"
        answer = shopper.get(path, shop_min_position=position, prefer="wait=10")
        assert answer.status_code == 200
        assert int(answer.headers["Shop-Position"]) >= int(position)


@pytest.mark.parametrize("path", ["/products", "/stats", "/events"])
def test_a_position_that_is_not_reached_is_503(shopper: Shopper, path: str) -> None:
    for headers in ({}, {"prefer": "wait=0.1"}):
        answer = shopper.get(path, shop_min_position="1", **headers)
        assert problem(answer) == (503, "position-not-reached")
        assert answer.headers["Retry-After"] == "1"


def test_a_read_waits_for_its_own_models_only(memory_shop: Shop, client: Shopper) -> None:
    for name in ("shop_stats", "product_catalog"):
        memory_shop.projections[name].pause()
    client.product()
    headers = {"shop_min_position": "2", "prefer": "wait=10"}
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.another().get, "/products", **headers)
        memory_shop.projections["product_catalog"].resume()
        assert waiting.result().status_code == 200
    assert client.get("/stats", shop_min_position="2").status_code == 503


@pytest.mark.parametrize("path", ["/products", "/orders", "/stats", "/events"])
def test_what_has_not_changed_is_304(shopper: Shopper, path: str) -> None:
    shopper.current(path)
    first = shopper.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith('"')
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = shopper.get(path, if_none_match=given)
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tag
        assert again.headers["Shop-Position"] == first.headers["Shop-Position"]
    assert shopper.get(path, if_none_match='"other"').status_code == 200


def test_what_has_changed_has_another_tag(shopper: Shopper) -> None:
    id = shopper.product()
    shopper.current(f"/products/{id}")
    tag = shopper.get(f"/products/{id}").headers["ETag"]
    shopper.done("shop.product.rename", {"name": "Rat"}, id)
    shopper.current(f"/products/{id}")
    assert shopper.get(f"/products/{id}", if_none_match=tag).status_code == 200


def test_answers_may_be_kept_when_they_are_checked(shopper: Shopper) -> None:
    answer = shopper.get("/products")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_head_answers_as_get_without_the_body(shopper: Shopper) -> None:
    shopper.product()
    shopper.current("/products")
    got, asked = shopper.get("/products"), shopper.ask("HEAD", "/products")
    assert asked.data == b""
    assert dict(asked.headers) == dict(got.headers)


def test_options_tell_the_methods(shopper: Shopper) -> None:
    answer = shopper.ask("OPTIONS", "/products")
    assert answer.status_code == 200
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
