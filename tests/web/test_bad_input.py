"""Bad input of any kind gets a precise answer and leaves no trace."""

from __future__ import annotations

import io
from collections.abc import Iterator
from uuid import uuid4

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from tests.web.shopper import Shopper, answered, problem

JSON = "application/json"
CREATE = "/commands/shop.product.create"
GOOD = b'{"name":"Mouse","price":2999,"stock":50}'


@pytest.fixture(autouse=True)
def _leaves_no_trace(client: Shopper) -> Iterator[None]:
    yield
    assert client.get("/events").json == {"items": [], "next": None}


NO_NAME = "Expected a name: lower-case letters, digits and _, in words joined by dots"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"name":"Mouse"',
        b"nonsense",
        GOOD + b"x",
        GOOD + GOOD,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        b'{"name":"\xff","price":2999,"stock":50}',
        b'{"name":"\xff","price":-1,"stock":50}',
        b'{"name":"\\ud800","price":2999,"stock":50}',
        b'{"name":"Mouse","price":NaN,"stock":50}',
        b'{"name":"Mouse","price":Infinity,"stock":50}',
        b'{"name":"Mouse","price":1e999,"stock":50}',
        b'{"name":"Mouse","price":' + b"9" * 5000 + b',"stock":50}',
        b"[" * 100_000,
        b'{"name":' + b"[" * 100_000,
        b'{"name":' * 50_000,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_is_no_json_is_400(client: Shopper, body: bytes) -> None:
    assert problem(client.post(CREATE, body, JSON)) == (400, "body-malformed")


@pytest.mark.parametrize("number", ["1e999", "9" * 5000])
def test_a_number_out_of_range_is_not_called_no_json(client: Shopper, number: str) -> None:
    body = f'{{"name":"Mouse","price":{number},"stock":50}}'
    detail = answered(client.post(CREATE, body, JSON))["detail"]
    assert detail == "the body has a number that is out of range"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"Mouse"', b"true", b"[{}]"])
def test_what_is_no_object_is_422(client: Shopper, body: bytes) -> None:
    answer = client.post(CREATE, body, JSON)
    assert problem(answer) == (422, "payload-invalid")
    assert [error["pointer"] for error in answered(answer)["errors"]] == [""]


def test_all_bad_fields_are_told_at_once(client: Shopper) -> None:
    payload = {"nam": "Mouse", "price": 0, "stock": "50", "a/b~c": 1}
    answer = client.command("shop.product.create", payload)
    assert problem(answer) == (422, "payload-invalid")
    errors = {error["pointer"]: error["detail"] for error in answered(answer)["errors"]}
    assert set(errors) == {"/nam", "/a~1b~0c", "/name", "/price", "/stock"}
    assert "required" in errors["/name"]
    assert ">= 1" in errors["/price"]
    assert "`int`" in errors["/stock"]


def test_pointers_lead_to_all_bad_fields_in_lists(client: Shopper) -> None:
    good = {"product_id": str(uuid4()), "quantity": 1}
    items = [{"quantity": "x"}, good, {**good, "quantity": 0, "pric": 5}, 7]
    answer = client.command("shop.order.place", {"customer_id": "me", "items": items})
    assert problem(answer) == (422, "payload-invalid")
    errors = {error["pointer"]: error["detail"] for error in answered(answer)["errors"]}
    assert sorted(errors) == [
        "/customer_id",
        "/items/0/product_id",
        "/items/0/quantity",
        "/items/2/pric",
        "/items/2/quantity",
        "/items/3",
    ]
    assert "required" in errors["/items/0/product_id"]
    assert "known: product_id, quantity, price" in errors["/items/2/pric"]
    assert ">= 1" in errors["/items/2/quantity"]


@pytest.mark.parametrize("items", [[], [{"product_id": str(uuid4()), "quantity": 1}] * 101, {}])
def test_a_list_that_is_wrong_as_a_whole_is_pointed_at(client: Shopper, items: object) -> None:
    answer = client.command("shop.order.place", {"customer_id": str(uuid4()), "items": items})
    assert problem(answer) == (422, "payload-invalid")
    assert [error["pointer"] for error in answered(answer)["errors"]] == ["/items"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", " "),
        ("name", "a\x00b"),
        ("name", "Mouse\n"),
        ("name", "x" * 201),
        ("name", None),
        ("price", 0),
        ("price", -1),
        ("price", 10**10 + 1),
        ("price", 2**63),
        ("price", 2**64),
        ("price", 10**30),
        ("price", 1.5),
        ("price", True),
        ("price", "1"),
        ("stock", -1),
        ("stock", 10**9 + 1),
        ("stock", [1]),
    ],
)
def test_a_field_that_does_not_fit_is_422_and_pointed_at(
    client: Shopper, field: str, value: object
) -> None:
    payload = {"name": "Mouse", "price": 2999, "stock": 50, field: value}
    answer = client.command("shop.product.create", payload)
    assert problem(answer) == (422, "payload-invalid")
    assert [error["pointer"] for error in answered(answer)["errors"]] == [f"/{field}"]


@pytest.mark.parametrize("email", ["", "ada", "@", "a@", "@b", "a b@c", "a@b\n", "a@b@c", "\x00@b"])
def test_what_is_no_email_address_is_422(client: Shopper, email: str) -> None:
    answer = client.command("shop.customer.register", {"name": "Ada", "email": email})
    assert problem(answer) == (422, "payload-invalid")


@pytest.mark.parametrize("encoding", ["gzip", "br, gzip"])
def test_a_compressed_body_is_415(client: Shopper, encoding: str) -> None:
    answer = client.post(CREATE, GOOD, JSON, content_encoding=encoding)
    assert problem(answer) == (415, "encoding-unsupported")
    assert answer.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "type", ["", "text/plain", "application/xml", "application/merge-patch+json", "json", "*/*"]
)
def test_another_media_type_is_415(client: Shopper, type: str) -> None:
    answer = client.post(CREATE, GOOD, type)
    assert problem(answer) == (415, "media-type-unsupported")
    assert answer.headers["Accept-Post"] == JSON


@pytest.mark.parametrize(
    ("name", "payload", "detail"),
    [
        (
            "shop.customer.register",
            {"name": "Ada", "email": "ada"},
            "This is no e-mail address",
        ),
        (
            "shop.customer.register",
            {"name": " ", "email": "a@b"},
            "This must be one line of text, with at least one visible character",
        ),
        (
            "shop.product.create",
            {"name": "Mouse", "price": 1.5, "stock": 1},
            "Expected a whole number, written without a decimal point",
        ),
        (
            "shop.order.place",
            {
                "customer_id": str(uuid4()),
                "items": [{"product_id": str(uuid4()), "quantity": 1, "price": 1.0}],
            },
            "Expected a whole number, written without a decimal point",
        ),
    ],
)
def test_what_is_wrong_with_a_field_is_told_in_words(
    client: Shopper, name: str, payload: object, detail: str
) -> None:
    errors = answered(client.command(name, payload))["errors"]
    assert [error["detail"] for error in errors] == [detail]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("/orders?status=x", "Expected one of: open, paid, cancelled"),
        (
            "/workflows?status=x",
            "Expected one of: running, compensating, completed, compensated, failed, parked",
        ),
        ("/events?name=shop.order.*", NO_NAME),
        ("/events?aggregate=Shop", NO_NAME),
    ],
)
def test_what_a_query_parameter_may_be_is_told(client: Shopper, query: str, detail: str) -> None:
    [error] = answered(client.get(query))["errors"]
    assert error["detail"] == detail


def test_a_body_over_one_mebibyte_is_413(client: Shopper) -> None:
    body = b'{"name":"' + b"x" * 1024 * 1024 + b'"}'
    assert problem(client.post(CREATE, body, JSON)) == (413, "body-too-large")


def test_a_body_whose_length_is_not_told_is_read_up_to_the_limit_only(client: Shopper) -> None:
    body = io.BytesIO(b"x" * 3 * 1024 * 1024)
    environ = EnvironBuilder(CREATE, method="POST", content_type=JSON).get_environ()
    environ |= {"REMOTE_ADDR": "127.0.0.1", "wsgi.input": body, "wsgi.input_terminated": True}
    assert "CONTENT_LENGTH" not in environ
    _, status, _ = run_wsgi_app(client.app, environ)
    assert status == "413 REQUEST ENTITY TOO LARGE"
    assert body.tell() <= 1024 * 1024 + 1


@pytest.mark.parametrize("key", ["", "1", "x" * 36, f"{uuid4()}x", f'"{uuid4()}"', uuid4().hex])
def test_an_idempotency_key_that_is_no_uuid_is_400(client: Shopper, key: str) -> None:
    answer = client.post(CREATE, GOOD, JSON, idempotency_key=key)
    assert problem(answer) == (400, "header-invalid")


@pytest.mark.parametrize("tag", ["", "1", '"x"', 'W/"1"', '"1", "2"', '"-1"', '"', '""', '"1.0"'])
def test_an_expected_version_that_is_none_is_400(client: Shopper, tag: str) -> None:
    answer = client.post(CREATE, GOOD, JSON, if_match=tag)
    assert problem(answer) == (400, "header-invalid")


def test_who_expects_no_version_is_told_where_to_get_one(client: Shopper) -> None:
    tag = client.get("/products").headers["ETag"]
    detail = answered(client.post(CREATE, GOOD, JSON, if_match=tag))["detail"]
    assert "ETag of a command's answer" in detail
    assert "GET /streams/<aggregate>/<id>" in detail
    parameters = answered(client.get("/openapi.json"))["components"]["parameters"]
    assert "GET /streams/" in parameters["IfMatch"]["description"]


def test_commands_take_no_query_parameters(client: Shopper) -> None:
    answer = client.post(f"{CREATE}?price=1", GOOD, JSON)
    assert problem(answer) == (400, "query-invalid")
    assert answered(answer)["errors"][0]["parameter"] == "price"


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/products/",
        "/products//x",
        "/products/x",
        "/streams/shop.product",
        "/%00",
        "/é",
    ],
)
def test_a_path_that_leads_nowhere_is_404(client: Shopper, path: str) -> None:
    assert problem(client.get(path)) == (404, "not-found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "TRACE", "NONSENSE"])
def test_another_method_is_405_and_told_which_are_allowed(client: Shopper, method: str) -> None:
    answer = client.ask(method, "/products")
    assert problem(answer) == (405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("limit=0", ["limit"]),
        ("limit=501", ["limit"]),
        ("limit=x", ["limit"]),
        ("limit=", ["limit"]),
        ("limit=1&limit=2", ["limit"]),
        ("after=-1", ["after"]),
        (f"after={2**63}", ["after"]),
        (f"after={'9' * 5000}", ["after"]),
        ("aggregate=%00", ["aggregate"]),
        ("name=shop.product.created&name=%00", ["name"]),
        ("aggregate_id=x&limit=x", ["limit", "aggregate_id"]),
        ("nonsense=1", ["nonsense"]),
        ("a/b=1", ["a/b"]),
        ("cursor=nonsense", ["cursor"]),
        ("cursor=%ff", ["cursor"]),
        ("cursor=é", ["cursor"]),
    ],
)
def test_bad_query_parameters_are_400_and_named(
    client: Shopper, query: str, parameters: list[str]
) -> None:
    answer = client.get(f"/events?{query}")
    assert problem(answer) == (400, "query-invalid")
    assert [error["parameter"] for error in answered(answer)["errors"]] == parameters


@pytest.mark.parametrize("limit", ["x", "", "1.5", "05"])
def test_a_text_is_told_that_it_is_no_number(client: Shopper, limit: str) -> None:
    """A query has nothing but texts, so that it is one tells nothing."""
    errors = answered(client.get(f"/products?limit={limit}"))["errors"]
    assert errors == [{"parameter": "limit", "detail": "Expected a whole number"}]


@pytest.mark.parametrize("path", ["/products?x=1", "/stats?x=1", f"/products/{uuid4()}?x=1"])
def test_unknown_query_parameters_are_refused_everywhere(client: Shopper, path: str) -> None:
    assert problem(client.get(path)) == (400, "query-invalid")


@pytest.mark.parametrize("position", ["", "x", "-1", "1.5", "9" * 19, '"1"'])
def test_a_position_that_is_no_number_is_400(client: Shopper, position: str) -> None:
    answer = client.get("/stats", shop_min_position=position)
    assert problem(answer) == (400, "header-invalid")
    assert f"must be a number of at most 18 digits, not {position!r}" in answered(answer)["detail"]


def test_what_goes_wrong_here_is_500_logged_and_not_told(
    client: Shopper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("shop.runtime.Shop.reader", fail)
    answer = client.get("/stats")
    assert problem(answer) == (500, "internal-error")
    assert "secret" not in answer.text
    assert "RuntimeError: a secret" in caplog.text
    assert "GET /stats failed" in caplog.text
