"""Commands over HTTP: what is answered when they are carried out, and when not."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from shop.backends import sqlite
from shop.config import Settings
from shop.web import create_app
from tests.web.shopper import Shopper, answered, open_shop, problem, running

MOUSE = {"name": "Wireless Mouse", "price": 2999, "stock": 50}


def test_a_created_aggregate_is_answered_with_its_place_version_and_position(
    shopper: Shopper,
) -> None:
    answer = shopper.command("shop.product.create", MOUSE)
    result = answered(answer)
    id = result["aggregate_id"]
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/products/{id}"
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Shop-Position"] == "2"
    assert answer.content_type == "application/json"
    assert (result["aggregate"], result["version"], result["position"]) == ("shop.product", 1, 2)
    assert [(event["name"], event["position"]) for event in result["events"]] == [
        ("shop.product.created", 1),
        ("shop.pricing.set", 2),
    ]


def test_what_was_created_can_be_read_where_the_answer_says(shopper: Shopper) -> None:
    customer = shopper.command("shop.customer.register", {"name": "Ada", "email": "a@example.org"})
    product = shopper.command("shop.product.create", MOUSE)
    items = [{"product_id": answered(product)["aggregate_id"], "quantity": 1}]
    payload = {"customer_id": answered(customer)["aggregate_id"], "items": items}
    order = shopper.command("shop.order.place", payload)
    for answer in (customer, product, order):
        assert shopper.current(answer.headers["Location"])


def test_the_client_may_choose_the_id_of_what_it_creates(shopper: Shopper) -> None:
    id = str(uuid4())
    answer = shopper.command("shop.product.create", MOUSE, id)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/products/{id}"


def test_a_change_is_answered_with_200_and_the_new_version(shopper: Shopper) -> None:
    id = shopper.product()
    answer = shopper.command("shop.product.rename", {"name": "Rat"}, id)
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"2"'
    assert "Location" not in answer.headers
    assert shopper.current(f"/products/{id}")["name"] == "Rat"


def test_a_command_that_changes_nothing_is_done_without_events(shopper: Shopper) -> None:
    id = shopper.product(name="Mouse")
    answer = shopper.command("shop.product.rename", {"name": "Mouse"}, id)
    assert answer.status_code == 200
    assert answered(answer)["events"] == []
    assert answered(answer)["version"] == 1


def test_a_product_is_ordered_paid_and_delivered_into_the_read_models(shopper: Shopper) -> None:
    mouse = shopper.product(price=1000, stock=10)
    shopper.done("shop.pricing.add_discount", {"label": "Autumn", "percent": 10}, mouse)
    ada = shopper.customer("Ada", "ada@example.org")
    address = {"street": "1 Main St", "city": "London", "zip_code": "N1", "country": "GB"}
    shopper.done("shop.customer.add_address", address, ada)
    order = shopper.order(ada, mouse, 3)
    shopper.done("shop.order.pay", {"amount": 2700}, order)
    cancelled = shopper.order(ada, mouse, 1)
    shopper.done("shop.order.cancel", {"reason": "changed my mind"}, cancelled)
    shopper.done("shop.customer.rename", {"name": "Ada King"}, ada)

    paid = {
        "order_id": order,
        "customer_id": ada,
        "customer_name": "Ada King",
        "items": [{"product_id": mouse, "name": "Mouse", "price": 900, "quantity": 3}],
        "status": "paid",
        "total": 2700,
        "deadline": None,
        "reason": None,
    }
    assert shopper.current(f"/orders/{order}") == paid
    assert shopper.current("/orders?status=cancelled")["items"][0]["reason"] == "changed my mind"
    history = shopper.current(f"/customers/{ada}/orders")
    assert history["customer_id"] == ada
    assert history["customer_name"] == "Ada King"
    assert history["orders"][1] == paid
    assert history["orders"][0]["status"] == "cancelled"
    assert shopper.current(f"/products/{mouse}") == {
        "id": mouse,
        "name": "Mouse",
        "price": 1000,
        "discounts": [{"label": "Autumn", "percent": 10}],
        "current_price": 900,
        "stock": 7,
    }
    customer = shopper.current(f"/customers/{ada}")
    assert customer["addresses"][0].pop("id")
    assert customer == {
        "id": ada,
        "name": "Ada King",
        "email": "ada@example.org",
        "addresses": [address],
    }
    assert shopper.current("/stats") == {
        "total_products": 1,
        "total_orders": 2,
        "total_revenue": 2700,
        "cancelled_orders": 1,
    }


def test_a_business_rule_says_no_with_409_and_its_code(shopper: Shopper) -> None:
    mouse = shopper.product(stock=1)
    short = {"customer_id": shopper.customer(), "items": [{"product_id": mouse, "quantity": 2}]}
    assert problem(shopper.command("shop.order.place", short)) == (409, "stock-insufficient")
    changed = {
        "customer_id": short["customer_id"],
        "items": [{"product_id": mouse, "quantity": 1, "price": 1}],
    }
    assert problem(shopper.command("shop.order.place", changed)) == (409, "price-changed")


def test_an_aggregate_that_does_not_exist_is_404(shopper: Shopper) -> None:
    answer = shopper.command("shop.product.rename", {"name": "Rat"}, str(uuid4()))
    assert problem(answer) == (404, "aggregate-unknown")


def test_an_unknown_command_is_404(shopper: Shopper) -> None:
    assert problem(shopper.command("shop.product.destroy", {})) == (404, "command-unknown")


def test_a_command_without_the_id_it_needs_is_404_and_told_what_is_missing(
    shopper: Shopper,
) -> None:
    answer = shopper.command("shop.product.rename", {"name": "Rat"})
    assert problem(answer) == (404, "id-missing")
    assert "/commands/shop.product.rename/<id>" in answered(answer)["detail"]


@pytest.mark.parametrize("id", ["1", "x", "{01890a5d-ac96-774b-bcce-b302099a8057}", "\x00"])
def test_an_id_that_is_no_uuid_is_404(shopper: Shopper, id: str) -> None:
    answer = shopper.command("shop.product.rename", {"name": "Rat"}, id)
    assert problem(answer) == (404, "not-found")


def test_the_expected_version_lets_a_change_pass(shopper: Shopper) -> None:
    id = shopper.product()
    answer = shopper.command("shop.product.rename", {"name": "Rat"}, id, if_match='"1"')
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')


def test_a_stale_version_is_412_with_the_current_one(shopper: Shopper) -> None:
    id = shopper.product()
    shopper.done("shop.product.rename", {"name": "Rat"}, id)
    answer = shopper.command("shop.product.rename", {"name": "Cat"}, id, if_match='"1"')
    assert problem(answer) == (412, "version-stale")
    assert answer.headers["ETag"] == '"2"'
    assert answered(answer)["version"] == 2
    assert shopper.current(f"/products/{id}")["name"] == "Rat"


def test_any_version_is_expected_with_a_star(shopper: Shopper) -> None:
    id = shopper.product()
    assert shopper.done("shop.product.rename", {"name": "Rat"}, id, if_match="*")["version"] == 2


def test_what_is_to_be_created_cannot_be_expected_to_exist(shopper: Shopper) -> None:
    answer = shopper.command("shop.product.create", MOUSE, if_match="*")
    assert problem(answer) == (400, "header-invalid")


@pytest.mark.parametrize("tag", ["*", '"1"'])
def test_a_condition_that_no_command_has_is_refused_and_not_passed_over(
    shopper: Shopper, tag: str
) -> None:
    id = shopper.product()
    for name, payload in (("create", MOUSE), ("rename", {"name": "Rat"})):
        answer = shopper.command(f"shop.product.{name}", payload, id, if_none_match=tag)
        assert problem(answer) == (400, "header-invalid")
        assert "If-None-Match" in answered(answer)["detail"]


def test_to_create_what_exists_is_409(shopper: Shopper) -> None:
    id = shopper.product()
    assert problem(shopper.command("shop.product.create", MOUSE, id)) == (409, "product-exists")


@pytest.mark.parametrize("settings", ["sqlite", "web"], indirect=True)
def test_a_store_that_cannot_be_reached_is_503_with_a_time_to_try_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shop.db"
    monkeypatch.setattr(sqlite, "Database", partial(sqlite.Database, timeout=0.2))
    with running(settings) as shop:
        client = Shopper(create_app(shop))
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        try:
            answer: TestResponse = client.command("shop.product.create", MOUSE)
        finally:
            locker.close()
        assert problem(answer) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert str(path) not in answer.text


def test_a_shop_that_was_closed_answers_503(tmp_path: Path) -> None:
    with open_shop(f"sqlite:///{tmp_path / 'shop.db'}") as shop:
        closed = Shopper(create_app(shop))
    assert problem(closed.command("shop.product.create", MOUSE)) == (503, "unavailable")
    assert problem(closed.get("/products")) == (503, "unavailable")


@pytest.mark.parametrize("path", ["/commands/shop.product.create", "/commands"])
def test_commands_are_not_read(shopper: Shopper, path: str) -> None:
    answer = shopper.get(path)
    assert problem(answer) == (405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
