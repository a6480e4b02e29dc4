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
    """The figures of a collector without the ``_created`` ones, which say when each began.

    The library can leave these out for the whole process only.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        for metric in self._collector.collect():
            began = f"{metric.name}_created"
            metric.samples = [sample for sample in metric.samples if sample.name != began]
            yield metric


class _RequestMetrics:
    """Counts requests, and times them until their answers begin."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "shop_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "shop_http_request_seconds", "Until the answer begins", ["route"], registry=registry
        )
        # The library's own look-up of labels takes a lock and costs more than the counting.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def begin(self) -> None:
        """Called before each request."""
        request.environ[_BEGAN] = time.perf_counter()

    def end(self, response: Response) -> Response:
        """Called after each request."""
        # Labels must stay few, whatever clients send.
        rule, environ = request.url_rule, request.environ
        route = rule.rule if rule else "none"
        method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in _METHODS else "other"
        self._counter((method, route, response.status_code)).inc()
        self._timer(route).observe(time.perf_counter() - environ[_BEGAN])
        return response

    def _counter(self, labels: tuple[str, str, int]) -> Counter:
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self._requests.labels(*map(str, labels))
        return counter

    def _timer(self, route: str) -> Histogram:
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = self._seconds.labels(route)
        return timer


def register_metrics(app: Flask, shop: Shop) -> None:
    """Count requests, time them until their answers begin, and serve ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(shop.metrics)
    registry.register(ShopCollector(shop))
    requests = _RequestMetrics(registry)
    app.before_request(requests.begin)
    app.after_request(requests.end)

    def metrics() -> Response:
        return Response(
            generate_latest(_WithoutCreated(registry)),
            200,
            {"Cache-Control": "no-cache"},
            content_type=CONTENT_TYPE_LATEST,
        )

    app.add_url_rule("/metrics", view_func=metrics)
