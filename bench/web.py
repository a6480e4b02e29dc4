"""Commands over HTTP, beside a Flask application that does nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from time import perf_counter

from bench.measure import Bench, Row
from bench.servers import THREADS, serving

_SECONDS = 3.0
_CONNECTIONS = 8
_CATCH_UP = 30
_LINES = 10_000
CREATE = "/commands/shop.product.create"
BODY = b'{"name":"Wireless Mouse","price":2999,"stock":50}'


def run(bench: Bench) -> Iterator[Row]:
    """Products created over HTTP, durably, in turns with the same JSON echoed."""
    bench.say(f"web: {_CONNECTIONS} connections to {THREADS} threads, in turns with a mere echo")
    store = f"sqlite:///{bench.directory / 'shop.db'}"
    with (
        serving("wsgi:app", bench.directory, SHOP_EVENT_STORE=store) as shop,
        serving("bench.echo:app", bench.directory) as echo,
        serving("bench.echo:app", bench.directory, one_core=True) as bound_echo,
    ):

        def create() -> float:
            pace = _load(shop, CREATE)
            _await_projections(shop)  # so that they do not slow the other side down
            return pace

        def create_in_batch() -> float:
            pace = _import(shop)
            _await_projections(shop)
            return pace

        samples = bench.in_turns(
            {
                "raw": lambda: _load(echo, "/echo"),
                "raw, bound": lambda: _load(bound_echo, "/echo"),
                "ours": create,
            },
            rounds=4,
        )
        batches = bench.in_turns({"one": create, "batch": create_in_batch}, rounds=3)
    ratio = samples.ratio("ours", "raw")
    yield Row(
        theme="web",
        what="create a product over HTTP (beside: Flask echoing the JSON)",
        unit="requests/s",
        ours=samples.typical("ours"),
        raw=samples.typical("raw"),
        ratio=ratio,
        target="ratio ≥ 0.6",
        met=ratio >= 0.6,
    )
    yield Row(
        theme="web",
        what="the same (beside: the echo on one core, too)",
        unit="requests/s",
        ours=samples.typical("ours"),
        raw=samples.typical("raw, bound"),
        ratio=samples.ratio("ours", "raw, bound"),
    )
    yield Row(
        theme="web",
        what=f"create {_LINES:,} products by one batch (beside: one request each)",
        unit="commands/s",
        ours=batches.typical("batch"),
        raw=batches.typical("one"),
        ratio=batches.ratio("batch", "one"),
    )


def _import(port: int) -> float:
    """Products created a second by one batch."""
    line = b'{"name":"shop.product.create","payload":' + BODY + b"}\n"
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    began = perf_counter()
    connection.request("POST", "/commands", line * _LINES, {"Content-Type": "application/x-ndjson"})
    results = connection.getresponse().read()
    seconds = perf_counter() - began
    connection.close()
    if results.count(b'"status":201') != _LINES:
        raise RuntimeError("not every product was created")
    return _LINES / seconds


def _load(port: int, path: str) -> float:
    command = [sys.executable, "-m", "bench.load", str(port), path, str(_CONNECTIONS)]
    outcome = subprocess.run(
        [*command, str(_SECONDS)], check=True, stdout=subprocess.PIPE, input=BODY
    )
    return float(outcome.stdout)


def _await_projections(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=_CATCH_UP + 5)
    connection.request("POST", CREATE, BODY, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    reached = {
        "Shop-Min-Position": answer.headers["Shop-Position"],
        "Prefer": f"wait={_CATCH_UP}",
    }
    for path in ("/products?limit=1", "/stats"):
        connection.request("GET", path, headers=reached)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise TimeoutError(f"the read models did not catch up: {answer.status} for {path}")
    connection.close()
