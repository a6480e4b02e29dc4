"""A command that could have created something, but recorded nothing, claims nothing."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from shop.domain.product import MODULE as PRODUCTS
from shop.domain.product import Product
from shop.eventsourcing import CommandBus, CommandPayload, UnitOfWork, command
from shop.runtime import Shop
from shop.web import create_app
from tests.web.shopper import Shopper, answered


@command("shop.product.consider", creates=True)
class Consider(CommandPayload, frozen=True):
    """Think about selling something."""


def _handle_consider(payload: Consider, id: UUID, work: UnitOfWork) -> None:
    work.find(Product, id)


@pytest.fixture
def client(memory_shop: Shop) -> Shopper:
    module = msgspec.structs.replace(PRODUCTS, handlers={Consider: _handle_consider})
    memory_shop.commands = CommandBus(memory_shop.store, memory_shop.aggregates, [module])
    return Shopper(create_app(memory_shop))


def test_it_is_answered_with_200_and_no_place_to_read(client: Shopper) -> None:
    answer = client.command("shop.product.consider", {})
    assert answer.status_code == 200
    assert "Location" not in answer.headers
    assert (answered(answer)["version"], answered(answer)["events"]) == (0, [])


def test_its_result_in_a_batch_has_status_200(client: Shopper) -> None:
    line = msgspec.json.encode({"name": "shop.product.consider", "payload": {}})
    answer = client.post("/commands", line, "application/x-ndjson")
    assert msgspec.json.decode(answer.data)["status"] == 200


def test_both_answers_are_documented(client: Shopper) -> None:
    paths = answered(client.get("/openapi.json"))["paths"]
    responses = paths["/commands/shop.product.consider"]["post"]["responses"]
    assert "Location" in responses["201"]["headers"]
    assert "Location" not in responses["200"]["headers"]
