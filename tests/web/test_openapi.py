"""The OpenAPI document, and the page that shows it."""

from __future__ import annotations

import re
import shlex
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from openapi_spec_validator import validate

from shop import __version__
from shop.domain.product import MODULE as PRODUCTS
from shop.eventsourcing import CommandBus, CommandPayload, UnitOfWork, command
from shop.runtime import Shop
from shop.web import create_app
from tests.web.shopper import Shopper, answered


@pytest.fixture
def document(client: Shopper) -> dict[str, Any]:
    return answered(client.get("/openapi.json"))


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_the_document_has_the_version_of_the_package(document: dict[str, Any]) -> None:
    assert document["info"]["version"] == __version__


def test_every_path_that_is_served_is_documented(client: Shopper, document: dict[str, Any]) -> None:
    served = {
        re.sub("<(.*?)>", r"{\1}", rule.rule)
        for rule in client.app.url_map.iter_rules()
        if rule.rule not in {"/", "/docs", "/openapi.json"}
    }
    documented = {
        re.sub(r"^/commands/[^/]+", "/commands/{name}", path) for path in document["paths"]
    }
    assert documented == served


def test_every_command_is_documented(memory_shop: Shop, document: dict[str, Any]) -> None:
    for cls in memory_shop.commands.registry:
        path = f"/commands/{cls.wire.name}"
        assert f"{path}/{{id}}" in document["paths"]
        assert (path in document["paths"]) == cls.creates
        assert document["components"]["schemas"][cls.__name__]["additionalProperties"] is False


@pytest.mark.parametrize(("name", "taken"), [("rename", True), ("create", False)])
def test_the_expected_versions_that_are_documented_are_taken(
    client: Shopper, document: dict[str, Any], name: str, taken: bool
) -> None:
    post = document["paths"][f"/commands/shop.product.{name}/{{id}}"]["post"]
    parameters = document["components"]["parameters"]
    named = [parameters[p["$ref"].rpartition("/")[2]] for p in post["parameters"] if "$ref" in p]
    [pattern] = [p["schema"]["pattern"] for p in named if p["name"] == "If-Match"]
    assert re.search(pattern, '"1"')
    assert (re.search(pattern, "*") is not None) == taken
    payload = {"name": "Rat", **({} if taken else {"price": 1, "stock": 1})}
    answer = client.command(f"shop.product.{name}", payload, str(uuid4()), if_match="*")
    assert answer.status_code == (404 if taken else 400)


def test_the_examples_are_accepted(client: Shopper, document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        if "post" in item and path != "/commands":
            sample = item["post"]["x-codeSamples"][0]["source"]
            _, option, body, url = shlex.split(sample)
            assert option == "--json"
            address = url.removeprefix("localhost:8080")
            answer = client.post(address, body, "application/json")
            assert answer.status_code in {200, 201, 404, 409}, (sample, answer.text)


@command("shop.product.praise", creates=True)
class Praise(CommandPayload, frozen=True):
    """Say something nice."""

    stars: int


def test_to_register_a_command_is_all_it_takes(memory_shop: Shop) -> None:
    def praise(payload: Praise, id: UUID, work: UnitOfWork) -> None:
        PRODUCTS.handlers[create](create("Praised", payload.stars, 1), id, work)

    create = next(cls for cls in PRODUCTS.handlers if cls.wire.name == "shop.product.create")
    module = msgspec.structs.replace(PRODUCTS, handlers={Praise: praise})
    memory_shop.commands = CommandBus(memory_shop.store, memory_shop.aggregates, [module])
    shopper = Shopper(create_app(memory_shop))
    document = answered(shopper.get("/openapi.json"))
    assert "/commands/shop.product.praise" in document["paths"]
    assert shopper.command("shop.product.praise", {"stars": 5}).status_code == 201
    assert shopper.command("shop.product.praise", {"stars": "5"}).status_code == 422


def test_the_page_shows_all_and_fetches_nothing(client: Shopper, document: dict[str, Any]) -> None:
    answer = client.get("/docs")
    assert answer.content_type == "text/html; charset=utf-8"
    for path in document["paths"]:
        assert path in answer.text
    assert "curl --json" in answer.text
    assert not re.search(r"<script|<link|<img|@import|url\(|src=|http://|https://", answer.text)
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_page_shows_no_marks_of_its_sources(client: Shopper) -> None:
    page = client.get("/docs").text
    prose = re.sub("<pre>.*?</pre>", "", page, flags=re.DOTALL)
    assert "`" not in prose
    assert "Page of StoredEvent" in prose
    assert "<code>Idempotency-Key</code>" in prose
    assert "<code>current_price</code>" in prose


def test_the_page_shows_commands_then_reads_then_monitoring(client: Shopper) -> None:
    headings = re.findall("<h2>(.*?)</h2>", client.get("/docs").text)
    assert headings.index("shop.order") < headings.index("batch") < headings.index("products")
    assert headings.index("streams") < headings.index("monitoring") < headings.index("Schemas")


@pytest.mark.parametrize("status", ["403", "405", "500"])
def test_the_page_tells_once_of_problems_that_any_operation_has(
    client: Shopper, status: str
) -> None:
    assert client.get("/docs").text.count(f"<td><code>{status}</code></td>") == 1


def test_the_examples_of_the_page_ask_where_it_came_from(client: Shopper) -> None:
    page = client.get("/docs", host="127.0.0.1:9000").text
    assert "127.0.0.1:9000/commands" in page
    assert "localhost:8080" not in page


def test_the_root_lists_what_there_is(client: Shopper, document: dict[str, Any]) -> None:
    index = answered(client.get("/"))
    assert set(index["paths"]) == set(document["paths"])
    for link in ("docs", "openapi"):
        assert client.get(index[link]).status_code == 200


def test_every_header_of_an_answer_is_documented(client: Shopper, document: dict[str, Any]) -> None:
    mouse = {"name": "Mouse", "price": 1, "stock": 1}
    key = str(uuid4())
    client.command("shop.product.create", mouse, idempotency_key=key)
    again = client.command("shop.product.create", mouse, idempotency_key=key, prefer="wait=10")
    everywhere = {"Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options"}
    for operation, answer in (
        (document["paths"]["/commands/shop.product.create"]["post"], again),
        (document["paths"]["/products"]["get"], client.get("/products")),
    ):
        documented = operation["responses"][str(answer.status_code)]["headers"]
        assert set(documented) == set(answer.headers.keys()) - everywhere


def test_every_header_of_a_problem_is_documented(client: Shopper, document: dict[str, Any]) -> None:
    path = "/commands/shop.product.rename"
    id = client.product()
    answers = (
        client.get(path + f"/{id}"),
        client.get(f"/products/{uuid4()}"),
        client.command("shop.product.rename", {"name": "Rat"}, id, if_match='"7"'),
        client.post(f"{path}/{id}", "{}", "text/plain"),
        client.post(f"{path}/{id}", "{}", "application/json", content_encoding="gzip"),
        client.get("/stats", shop_min_position="99"),
    )
    everywhere = {"Content-Type", "Content-Length", "X-Content-Type-Options"}
    for answer in answers:
        documented = document["components"]["responses"][f"Problem{answer.status_code}"]["headers"]
        told = set(answer.headers.keys()) - everywhere
        assert told
        assert told <= set(documented)
