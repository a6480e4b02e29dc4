"""Answers end their line: in a terminal the prompt comes on the next one."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.web.shopper import Shopper


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/openapi.json",
        "/livez",
        "/readyz",
        "/products",
        "/stats",
        "/events",
        "/nowhere",
        f"/products/{uuid4()}",
        "/products?limit=0",
    ],
)
def test_an_answer_ends_its_line(client: Shopper, path: str) -> None:
    assert_one_line(client.get(path).data)


def test_the_answer_to_a_command_ends_its_line(client: Shopper) -> None:
    mouse = {"name": "Mouse", "price": 1, "stock": 1}
    assert_one_line(client.command("shop.product.create", mouse).data)
    assert_one_line(client.command("shop.product.create", {}).data)


def test_a_line_of_a_batch_ends_once(client: Shopper) -> None:
    assert_one_line(client.post("/commands", "{}", "application/x-ndjson").data)


def assert_one_line(text: bytes) -> None:
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 1
