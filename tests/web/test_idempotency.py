"""A command with an idempotency key is done once, however often it is sent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from shop.web import create_app
from tests.web.shopper import Shopper, answered, open_shop, problem

MOUSE = {"name": "Wireless Mouse", "price": 2999, "stock": 50}


def test_a_command_sent_again_is_answered_as_the_first_time(shopper: Shopper) -> None:
    key = str(uuid4())
    first = shopper.command("shop.product.create", MOUSE, idempotency_key=key)
    shopper.product()
    again = shopper.command("shop.product.create", MOUSE, idempotency_key=key)
    assert answered(first)["command_id"] == key
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.json) == (201, first.json)
    for name in ("Location", "ETag", "Shop-Position"):
        assert again.headers[name] == first.headers[name]
    assert len(shopper.get("/events").json["items"]) == 4  # type: ignore[index] # JSON of a list


def test_a_change_sent_again_is_answered_with_the_version_it_made(shopper: Shopper) -> None:
    id, key = shopper.product(), str(uuid4())
    shopper.done("shop.product.rename", {"name": "Rat"}, id, idempotency_key=key)
    shopper.done("shop.product.rename", {"name": "Cat"}, id)
    again = shopper.command("shop.product.rename", {"name": "Rat"}, id, idempotency_key=key)
    assert (again.status_code, again.headers["ETag"]) == (200, '"2"')
    assert shopper.current(f"/products/{id}")["name"] == "Cat"


def test_a_change_sent_again_is_answered_though_its_expected_version_is_stale_now(
    shopper: Shopper,
) -> None:
    id, key = shopper.product(), str(uuid4())
    for _ in range(2):
        answer = shopper.command(
            "shop.product.rename", {"name": "Rat"}, id, idempotency_key=key, if_match='"1"'
        )
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')


def test_a_command_without_effect_is_remembered_too(shopper: Shopper) -> None:
    id, key = shopper.product(name="Mouse"), str(uuid4())
    shopper.done("shop.product.rename", {"name": "Mouse"}, id, idempotency_key=key)
    again = shopper.command("shop.product.rename", {"name": "Mouse"}, id, idempotency_key=key)
    assert answered(again)["events"] == []
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_key_that_was_used_for_something_else_is_422(shopper: Shopper) -> None:
    key = str(uuid4())
    id = shopper.product()
    shopper.done("shop.product.create", MOUSE, idempotency_key=key)
    for name, payload, address in (
        ("shop.product.create", {**MOUSE, "price": 1}, None),
        ("shop.product.create", MOUSE, id),
        ("shop.product.rename", {"name": "Rat"}, id),
    ):
        answer = shopper.command(name, payload, address, idempotency_key=key)
        assert problem(answer) == (422, "command-id-reused")


def test_a_refused_command_may_be_sent_again_when_it_can_be_done(shopper: Shopper) -> None:
    key, id = str(uuid4()), shopper.product(stock=0)
    payload = {"quantity": -1, "reason": "sold"}
    refused = shopper.command("shop.product.adjust_stock", payload, id, idempotency_key=key)
    assert problem(refused) == (409, "stock-insufficient")
    shopper.done("shop.product.adjust_stock", {"quantity": 1, "reason": "found"}, id)
    done = shopper.command("shop.product.adjust_stock", payload, id, idempotency_key=key)
    assert done.status_code == 200
    assert "Idempotent-Replayed" not in done.headers


def test_of_many_that_are_sent_at_once_one_is_done(shopper: Shopper) -> None:
    key = str(uuid4())
    clients = [shopper.another() for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(
                lambda client: client.command("shop.product.create", MOUSE, idempotency_key=key),
                clients,
            )
        )
    assert [answer.status_code for answer in answers] == [201] * 16
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert shopper.current("/stats")["total_products"] == 1


def test_a_command_is_known_after_a_restart(tmp_path: Path) -> None:
    key, url = str(uuid4()), f"sqlite:///{tmp_path / 'shop.db'}"
    with open_shop(url) as shop:
        before = Shopper(create_app(shop)).command(
            "shop.product.create", MOUSE, idempotency_key=key
        )
    with open_shop(url) as shop:
        after = Shopper(create_app(shop)).command("shop.product.create", MOUSE, idempotency_key=key)
    assert after.headers["Idempotent-Replayed"] == "true"
    assert (after.status_code, after.json) == (201, before.json)
