"""Figures for Prometheus: those of HTTP, and the shop's own."""

from __future__ import annotations

import time
from collections.abc import Iterable

from flask import Flask, Response, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.registry import Collector

from shop.metrics import ShopCollector
from shop.runtime import Shop

_BEGAN = "shop.began"
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})


class _WithoutCreated(Collector):
    """The figures of a collector, but not when each began, which nobody asks for.

    The library can leave those out for the whole process only.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        for metric in self._collector.collect():
            began = f"{metric.name}_created"
            metric.samples = [sample for sample in metric.samples if sample.name != began]
            yield metric


def register_metrics(app: Flask, shop: Shop) -> None:
    """Count requests, time them until their answers begin, and serve ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(shop.metrics)
    registry.register(ShopCollector(shop))
    requests = Counter(
        "shop_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
    )
    seconds = Histogram(
        "shop_http_request_seconds", "Until the answer begins", ["route"], registry=registry
    )
    # The library's own look-up of labels takes a lock and costs more than the counting.
    counters: dict[tuple[str, str, int], Counter] = {}
    timers: dict[str, Histogram] = {}

    @app.before_request
    def begin() -> None:
        request.environ[_BEGAN] = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # Labels must stay few, whatever clients send.
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in _METHODS else "other"
        key = (method, route, response.status_code)
        counter = counters.get(key)
        if counter is None:
            counter = counters[key] = requests.labels(*map(str, key))
        counter.inc()
        timer = timers.get(route)
        if timer is None:
            timer = timers[route] = seconds.labels(route)
        timer.observe(time.perf_counter() - request.environ[_BEGAN])
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        headers = {"Cache-Control": "no-cache"}
        return Response(
            generate_latest(_WithoutCreated(registry)),
            200,
            headers,
            content_type=CONTENT_TYPE_LATEST,
        )
