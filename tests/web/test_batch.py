"""Many commands in one request."""

from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.runtime import Shop
from shop.web import create_app
from tests.web.shopper import Shopper, problem, running

NDJSON = "application/x-ndjson"


def create(name: str = "Mouse", price: int = 1, **fields: object) -> dict[str, object]:
    return {
        "name": "shop.product.create",
        "payload": {"name": name, "price": price, "stock": 1},
        **fields,
    }


def send(shopper: Shopper, *lines: object) -> list[dict[str, Any]]:
    """The result lines of a batch; a line may be given as it is, as bytes."""
    body = b"".join(
        (line if isinstance(line, bytes) else msgspec.json.encode(line)) + b"\n" for line in lines
    )
    answer = shopper.post("/commands", body, NDJSON)
    assert answer.status_code == 200
    assert answer.content_type == NDJSON
    return [msgspec.json.decode(line) for line in answer.data.splitlines()]


def test_lines_that_a_stopping_shop_does_not_begin_are_told_by_their_ids(
    memory_shop: Shop, client: Shopper
) -> None:
    memory_shop.begin_shutdown()
    key = str(uuid4())
    results = send(client, create(id=key), create())
    told = [(r["status"], r["type"], r["command_id"]) for r in results]
    stopping = (503, "urn:shop:problem:unavailable")
    assert told == [(*stopping, key), (*stopping, None)]
    assert memory_shop.store.head() == 0


def test_each_command_is_answered_with_a_line_in_order(shopper: Shopper) -> None:
    mouse, key = str(uuid4()), str(uuid4())
    results = send(
        shopper,
        create(aggregate_id=mouse),
        {
            "name": "shop.product.rename",
            "aggregate_id": mouse,
            "id": key,
            "payload": {"name": "Rat"},
        },
        create("Cat"),
    )
    assert [result["status"] for result in results] == [201, 200, 201]
    assert [result["position"] for result in results] == [2, 3, 5]
    assert results[0]["aggregate_id"] == mouse
    assert results[1]["command_id"] == key
    assert results[1]["version"] == 2
    names = [product["name"] for product in shopper.current("/products")["items"]]
    assert names == ["Rat", "Cat"]


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match", "Idempotency-Key"])
def test_headers_that_are_about_one_command_are_refused(shopper: Shopper, header: str) -> None:
    line = msgspec.json.encode(create())
    refused = shopper.post("/commands", line, NDJSON, **{header.replace("-", "_"): str(uuid4())})
    assert problem(refused) == (400, "header-invalid")
    assert header in refused.text
    assert shopper.current("/products")["items"] == []


def test_bad_lines_do_not_stop_the_others(shopper: Shopper) -> None:
    mouse = shopper.product(stock=0)
    sold = {"quantity": -1, "reason": "sold"}
    results = send(
        shopper,
        create(price=0),
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
        [],
        {"payload": {}, "more": 1},
        {"name": "shop.product.destroy", "payload": {}},
        {"name": "shop.product.rename", "payload": {"name": "Rat"}},
        create(aggregate_id="x"),
        {"name": "shop.product.adjust_stock", "aggregate_id": mouse, "payload": sold},
        {"name": "shop.product.rename", "aggregate_id": str(uuid4()), "payload": {"name": "Rat"}},
        create(),
    )
    assert [
        (result["status"], result.get("type", "").rpartition(":")[2]) for result in results
    ] == [
        (422, "payload-invalid"),
        (400, "body-malformed"),
        (400, "body-malformed"),
        (400, "body-malformed"),
        (422, "line-invalid"),
        (422, "line-invalid"),
        (404, "command-unknown"),
        (404, "id-missing"),
        (422, "line-invalid"),
        (409, "stock-insufficient"),
        (404, "aggregate-unknown"),
        (201, ""),
    ]
    assert results[0]["errors"] == [{"detail": "Expected `int` >= 1", "pointer": "/payload/price"}]
    assert [error["pointer"] for error in results[5]["errors"]] == ["/more", "/name"]
    assert results[8]["errors"][0]["pointer"] == "/aggregate_id"


def test_a_result_tells_the_number_of_its_line(shopper: Shopper) -> None:
    results = send(shopper, b"", create(), b"nonsense", b" \r", [], create())
    assert [result["line"] for result in results] == [2, 3, 5, 6]


def test_a_valid_id_is_told_wherever_the_line_is_wrong(shopper: Shopper) -> None:
    key = str(uuid4())
    results = send(
        shopper,
        create(id=key, price=0),
        create(id=key, aggregate_id="x"),
        {"id": key},
        create(id=key, more=1),
        create(id="x"),
        [key],
    )
    assert [result["command_id"] for result in results] == [key] * 4 + [None] * 2
    assert {result["status"] for result in results} == {422}


def test_a_line_that_is_no_json_is_told_what_a_line_is(shopper: Shopper) -> None:
    line = msgspec.json.encode(create())
    [result] = send(shopper, line + line)
    assert "trailing characters" in result["detail"]
    assert "one JSON object" in result["detail"]
    assert "--data-binary" in result["detail"]


def test_a_batch_sent_again_is_done_once(shopper: Shopper) -> None:
    lines = [create(id=str(uuid4())) for _ in range(3)]
    first = send(shopper, *lines)
    assert send(shopper, *lines) == first
    assert shopper.current("/stats")["total_products"] == 3


@pytest.mark.parametrize("settings", ["web"], indirect=True)
def test_lines_that_no_worker_takes_are_answered_at_once_and_may_be_sent_again(
    settings: Settings,
) -> None:
    lines = [create(id=str(uuid4())) for _ in range(300)]
    with bootstrap(settings) as shop:
        began = time.monotonic()
        refused = send(Shopper(create_app(shop)), *lines)
        assert time.monotonic() - began < 5
    assert {(result["status"], result["type"]) for result in refused} == {
        (503, "urn:shop:problem:no-worker")
    }
    with running(settings) as shop:
        done = send(Shopper(create_app(shop)), *lines)
        assert shop.store.head() == 600
    assert {result["status"] for result in done} == {201}
    for results in (refused, done):
        assert [result["command_id"] for result in results] == [line["id"] for line in lines]


def test_blank_lines_count_for_nothing(shopper: Shopper) -> None:
    assert [result["status"] for result in send(shopper, b"", b"  \r", create(), b"")] == [201]


def test_the_last_line_needs_no_line_feed(shopper: Shopper) -> None:
    answer = shopper.post("/commands", msgspec.json.encode(create()), NDJSON)
    assert len(answer.data.splitlines()) == 1


def test_an_empty_batch_has_no_results(shopper: Shopper) -> None:
    assert send(shopper) == []


def test_a_line_over_one_mebibyte_is_refused_alone(shopper: Shopper) -> None:
    results = send(shopper, create(), create("x" * 2_000_000), create())
    assert [result["status"] for result in results] == [201, 413, 201]


def test_another_media_type_is_415(shopper: Shopper) -> None:
    answer = shopper.post("/commands", "{}", "application/json")
    assert problem(answer) == (415, "media-type-unsupported")
    assert answer.headers["Accept-Post"] == NDJSON


def test_what_is_left_when_the_shop_stops_is_answered_503(
    memory_shop: Shop, client: Shopper
) -> None:
    memory_shop.begin_shutdown()
    results = send(client, create(), create())
    assert [result["status"] for result in results] == [503, 503]
    assert client.get("/events").json == {"items": [], "next": None}


class Endless(io.RawIOBase):
    """A body that is made as it is read: one text again and again."""

    def __init__(self, text: bytes, count: int) -> None:
        self._text = text
        self._left = count
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._rest) < len(buffer) and self._left:
            self._rest += self._text
            self._left -= 1
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def streamed(shopper: Shopper, line: object, count: int) -> Iterator[bytes]:
    """The result lines of a batch of one line again and again, as they come."""
    return results(shopper, Endless(msgspec.json.encode(line) + b"\n", count))


def results(shopper: Shopper, body: io.RawIOBase) -> Iterator[bytes]:
    """The result lines of a batch, as they come."""
    environ = EnvironBuilder("/commands", method="POST", content_type=NDJSON).get_environ()
    environ["REMOTE_ADDR"] = "127.0.0.1"
    environ["wsgi.input"] = body
    environ["wsgi.input_terminated"] = True
    chunks, status, _ = run_wsgi_app(shopper.app, environ, buffered=False)
    assert status == "200 OK"
    return iter(chunks)


def test_ten_thousand_commands_are_done(client: Shopper) -> None:
    done = sum(b'"status":201' in line for line in streamed(client, create(), 10_000))
    assert done == 10_000
    assert client.current("/stats")["total_products"] == 10_000


def test_batches_take_no_more_than_their_share_of_the_threads(memory_shop: Shop) -> None:
    client = Shopper(create_app(memory_shop, long_waits=2))
    first, second = streamed(client, create(), 10**9), streamed(client, create(), 10**9)
    assert next(first)
    assert next(second)

    refused = client.post("/commands", b"", NDJSON)
    assert problem(refused) == (503, "busy")
    assert refused.headers["Retry-After"] == "1"

    first.close()  # type: ignore[attr-defined] # the generator of the response
    assert len(send(client, create())) == 1
    second.close()  # type: ignore[attr-defined] # as above


def test_results_come_before_the_batch_has_been_read(shopper: Shopper) -> None:
    batch = streamed(shopper, create(), 10**9)
    assert b'"status":201' in next(batch)
    batch.close()  # type: ignore[attr-defined] # the generator of the response


def test_a_batch_of_any_length_is_done_in_flat_memory(client: Shopper) -> None:
    batch = streamed(client, create("x" * 1000), 20_000)
    next(batch)
    with peak_below(2_000_000):
        assert sum(len(line) for line in batch) > 4_000_000


def test_a_line_of_any_length_is_refused_in_flat_memory(client: Shopper) -> None:
    with peak_below(5_000_000):
        [line] = results(client, Endless(b"x" * 1000, 20_000))
    assert b'"status":413' in line


@contextmanager
def peak_below(most: int) -> Iterator[None]:
    """Fails when the block takes more memory than so many bytes at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
