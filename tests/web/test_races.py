"""Races between clients: the rules hold under any interleaving."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from werkzeug.test import TestResponse

from tests.web.shopper import Shopper, answered


def at_once(shopper: Shopper, name: str, payloads: list[Any], **headers: str) -> list[TestResponse]:
    """The answers to commands that eight clients send at the same time."""

    def send(payload: Any) -> TestResponse:
        return shopper.another().command(name, payload, **headers)

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(send, payloads))


def test_one_of_many_gets_an_email_address(shopper: Shopper) -> None:
    emails = ["ada@example.org", "Ada@Example.ORG"] * 8
    payloads = [{"name": f"Ada {n}", "email": email} for n, email in enumerate(emails)]
    answers = at_once(shopper, "shop.customer.register", payloads)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 15}
    kinds = {answered(answer)["type"] for answer in answers if answer.status_code == 409}
    assert kinds == {"urn:shop:problem:email-taken"}


def test_no_more_is_sold_than_there_is(shopper: Shopper) -> None:
    mouse, ada = shopper.product(stock=50), shopper.customer()
    payload = {"customer_id": ada, "items": [{"product_id": mouse, "quantity": 1}]}
    answers = at_once(shopper, "shop.order.place", [payload] * 100)
    assert Counter(answer.status_code for answer in answers) == {201: 50, 409: 50}
    assert shopper.current(f"/products/{mouse}")["stock"] == 0
    assert shopper.current("/stats")["total_orders"] == 50


def test_orders_of_the_same_products_in_any_order_do_not_block_each_other(
    shopper: Shopper,
) -> None:
    mice = [shopper.product(stock=100) for _ in range(3)]
    ada = shopper.customer()
    items = [{"product_id": mouse, "quantity": 1} for mouse in mice]
    payloads = [{"customer_id": ada, "items": items if n % 2 else items[::-1]} for n in range(20)]
    answers = at_once(shopper, "shop.order.place", payloads)
    assert {answer.status_code for answer in answers} == {201}
    assert [shopper.current(f"/products/{mouse}")["stock"] for mouse in mice] == [80] * 3


def test_changes_that_do_not_expect_a_version_all_pass(shopper: Shopper) -> None:
    mouse = shopper.product(stock=0)
    payloads = [{"quantity": 1, "reason": "found"}] * 40
    answers = at_once(shopper, f"shop.product.adjust_stock/{mouse}", payloads)
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(int(answer.headers["ETag"].strip('"')) for answer in answers) == list(
        range(2, 42)
    )


def test_of_changes_that_expect_the_same_version_one_passes(shopper: Shopper) -> None:
    mouse = shopper.product()
    payloads = [{"name": f"Mouse {n}"} for n in range(16)]
    answers = at_once(shopper, f"shop.product.rename/{mouse}", payloads, if_match='"1"')
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 15}
