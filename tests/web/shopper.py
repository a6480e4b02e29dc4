"""A client of the shop, for tests that read like a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import msgspec
from flask import Flask
from werkzeug.test import TestResponse

from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.eventsourcing import RemoteCommandBus
from shop.health import health_of
from shop.runtime import Shop
from tests.waiting import await_true


class Shopper:
    """Sends requests to an app. For one thread: others take another of the same app."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self._client = app.test_client()

    def another(self) -> Shopper:
        return Shopper(self.app)

    def get(self, path: str, **headers: str) -> TestResponse:
        return self._client.get(path, headers=_headers(headers))

    def ask(self, method: str, path: str, **headers: str) -> TestResponse:
        return self._client.open(path, method=method, headers=_headers(headers))

    def post(self, path: str, body: bytes | str, type: str, **headers: str) -> TestResponse:
        return self._client.post(path, data=body, content_type=type, headers=_headers(headers))

    def command(
        self, name: str, payload: object, id: str | None = None, **headers: str
    ) -> TestResponse:
        path = f"/commands/{name}" + (f"/{id}" if id else "")
        return self._client.post(path, json=payload, headers=_headers(headers))

    def done(
        self, name: str, payload: object, id: str | None = None, **headers: str
    ) -> dict[str, Any]:
        """The result of a command that must be carried out."""
        answer = self.command(name, payload, id, **headers)
        assert answer.status_code in {200, 201}, answer.text
        return answered(answer)

    def product(self, name: str = "Mouse", price: int = 2999, stock: int = 50) -> str:
        """The id of a new product."""
        return created(self.done("shop.product.create", _product(name, price, stock)))

    def customer(self, name: str = "Ada", email: str | None = None) -> str:
        """The id of a new customer."""
        email = email or f"{uuid4()}@example.org"
        return created(self.done("shop.customer.register", {"name": name, "email": email}))

    def order(self, customer: str, product: str, quantity: int = 1) -> str:
        """The id of a new order."""
        items = [{"product_id": product, "quantity": quantity}]
        return created(self.done("shop.order.place", {"customer_id": customer, "items": items}))

    def current(self, path: str) -> Any:
        """What a read answers with when it has seen everything that was done so far."""
        head = self.get("/events").headers["Shop-Position"]
        answer = self.get(path, shop_min_position=head, prefer="wait=10")
        assert answer.status_code == 200, answer.text
        return answer.json


def open_shop(url: str) -> Shop:
    return bootstrap(Settings.from_env({"SHOP_EVENT_STORE": url}))


@contextmanager
def running(settings: Settings) -> Iterator[Shop]:
    """A running shop; where it is a web node, with a worker beside it that takes commands."""
    with ExitStack() as nodes:
        if settings.role == "web":
            nodes.enter_context(bootstrap(msgspec.structs.replace(settings, role="worker")))
        shop = nodes.enter_context(bootstrap(settings))
        if isinstance(shop.commands, RemoteCommandBus):
            await_true(lambda: not health_of(shop).degraded)
        yield shop


def answered(answer: TestResponse) -> dict[str, Any]:
    """The JSON object of an answer."""
    assert isinstance(answer.json, dict)
    return answer.json


def created(result: dict[str, Any]) -> str:
    id = result["aggregate_id"]
    assert isinstance(id, str)
    return id


def problem(answer: TestResponse) -> tuple[int, str]:
    """Status and type of a problem, after a look at its form."""
    members = answered(answer)
    assert answer.content_type == "application/problem+json"
    assert members["status"] == answer.status_code
    assert members["title"]
    assert members["detail"]
    kind: str = members["type"]
    assert kind.startswith("urn:shop:problem:")
    return answer.status_code, kind.removeprefix("urn:shop:problem:")


def _product(name: str, price: int, stock: int) -> dict[str, object]:
    return {"name": name, "price": price, "stock": stock}


def _headers(given: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}
