"""How soon a read model answers with a command that was just accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from time import perf_counter

import msgspec

from bench.measure import Bench, Row, percentile
from bench.servers import serving
from bench.web import BODY, CREATE
from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.domain.product import CreateProduct
from shop.eventsourcing import Command
from shop.projections.product_catalog import CatalogProduct, ProductCatalog

_COMMANDS = 500
_WARM_UP = 50


def run(bench: Bench) -> Iterator[Row]:
    """One command after the other, and after each a read that waits for it."""
    bench.say(f"fresh: {_COMMANDS} commands over HTTP, each read back from the catalog")
    yield from _rows("over HTTP", _over_http(bench))
    bench.say(f"fresh: {_COMMANDS} commands in this process")
    yield from _rows("in process", _in_process(bench))


def _rows(where: str, seconds: Sequence[float]) -> Iterator[Row]:
    for percent in (50, 99):
        yield Row(
            theme="fresh",
            what=f"accepted command -> catalog answers with it, {where}, p{percent}",
            unit="ms",
            ours=1000 * percentile(seconds, percent),
        )


def _timed(accept: Callable[[], Callable[[], None]]) -> Sequence[float]:
    """The seconds from when a command is accepted to when it has been read back."""
    seconds = []
    for number in range(_WARM_UP + _COMMANDS):
        read_back = accept()
        began = perf_counter()
        read_back()
        if number >= _WARM_UP:
            seconds.append(perf_counter() - began)
    return seconds


def _over_http(bench: Bench) -> Sequence[float]:
    store = f"sqlite:///{bench.directory / 'http.db'}"
    with serving("wsgi:app", bench.directory, SHOP_EVENT_STORE=store) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)

        def accept() -> Callable[[], None]:
            connection.request("POST", CREATE, BODY, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            id = msgspec.json.decode(answer.read())["aggregate_id"]
            position = answer.headers["Shop-Position"]

            def read_back() -> None:
                headers = {"Shop-Min-Position": position, "Prefer": "wait=1"}
                connection.request("GET", f"/products/{id}", headers=headers)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                assert msgspec.json.decode(answer.read())["current_price"] == 2999

            return read_back

        seconds = _timed(accept)
        connection.close()
        return seconds


def _in_process(bench: Bench) -> Sequence[float]:
    url = f"sqlite:///{bench.directory / 'process.db'}"
    with bootstrap(Settings(event_store=url, model_store=url)) as shop:
        runner = shop.projections[ProductCatalog.name]
        catalog = shop.reader(ProductCatalog.name)

        def accept() -> Callable[[], None]:
            result = shop.commands.dispatch(
                Command.new(CreateProduct("Wireless Mouse", 2999, 50)), timeout=5.0
            )

            def read_back() -> None:
                assert runner.wait_for(result.position, 1.0)
                product = catalog.get(CatalogProduct, result.aggregate.id).value
                assert product is not None
                assert product.current_price == 2999

            return read_back

        return _timed(accept)
