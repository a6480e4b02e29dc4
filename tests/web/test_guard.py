"""Only clients on the shop's own machine are served."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.web.shopper import Shopper, problem

PATHS = ["/products", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/", "/nowhere"]


@pytest.fixture
def raw(client: Shopper) -> FlaskClient:
    return client.app.test_client()


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "192.168.1.2", "8.8.8.8", "128.0.0.1", "::2", "fe80::1", "::ffff:10.0.0.1", ""],
)
def test_a_client_elsewhere_is_403(raw: FlaskClient, address: str) -> None:
    answer = raw.get("/livez", environ_overrides={"REMOTE_ADDR": address})
    assert problem(answer) == (403, "client-not-local")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:127.9.9.9"]
)
def test_a_client_here_is_served(raw: FlaskClient, address: str) -> None:
    assert raw.get("/livez", environ_overrides={"REMOTE_ADDR": address}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "example.org:8080",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "localhost:x",
        "localhost:",
        "localhost.",
        "127.0.0",
        "[::2]",
        "::1",
        "0.0.0.0",
        "localhost@example.org",
        "a" * 10_000,
        "..",
        "\xe9",
        "",
    ],
)
def test_a_server_that_is_addressed_by_another_name_answers_403(
    raw: FlaskClient, host: str
) -> None:
    answer = raw.get("/livez", environ_overrides={"HTTP_HOST": host})
    assert problem(answer) == (403, "host-not-local")
    assert "DNS rebinding" in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]", "[::1]:80"]
)
def test_a_server_that_is_addressed_as_local_answers(raw: FlaskClient, host: str) -> None:
    assert raw.get("/livez", environ_overrides={"HTTP_HOST": host}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_no_path_is_open_to_others(raw: FlaskClient, path: str) -> None:
    assert raw.get(path, headers={"Host": "example.org"}).status_code == 403
    assert raw.get(path, environ_overrides={"REMOTE_ADDR": "10.0.0.1"}).status_code == 403


@pytest.mark.parametrize("path", ["/commands", "/commands/shop.product.create"])
def test_nobody_else_sends_commands(client: Shopper, raw: FlaskClient, path: str) -> None:
    line = {"name": "shop.product.create", "payload": {"name": "M", "price": 1, "stock": 1}}
    for given in ({"REMOTE_ADDR": "10.0.0.1"}, {"HTTP_HOST": "example.org"}):
        assert raw.post(path, json=line, environ_overrides=given).status_code == 403
    assert client.get("/events").headers["Shop-Position"] == "0"
