"""Projections that catch up with a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from statistics import median
from time import perf_counter

from bench.measure import Bench, Row
from bench.sample import business, fill
from shop.backends.memory import MemoryEventBus
from shop.backends.sqlite import Database, SqliteEventStore, SqliteModelStore
from shop.bootstrap import event_registry
from shop.eventsourcing import Projection, ProjectionRunner
from shop.projections.order_summary import OrderSummary
from shop.projections.product_catalog import ProductCatalog

_EVENTS = 50_000
_ROUNDS = 3
_TIMEOUT = 120.0


def run(bench: Bench) -> Iterator[Row]:
    """Each projection from nothing to the head of the log, in a file that holds only models."""
    bench.say(f"project: writing {_EVENTS:,} events")
    registry = event_registry()
    rates: dict[str, list[float]] = {}
    database = Database(bench.directory / "events.db")
    with SqliteEventStore(database, registry, owns_database=True) as events:
        fill(events, business(), _EVENTS)
        for number in range(1, _ROUNDS + 1):
            for projection in (ProductCatalog(), OrderSummary()):
                path = bench.directory / f"{projection.name}-{number}.db"
                with closing(Database(path)) as models:
                    pace = _catch_up(projection, events, SqliteModelStore(models))
                rates.setdefault(projection.name, []).append(pace)
            bench.say(f"project: round {number} of {_ROUNDS}")
    for name, paces in rates.items():
        yield Row(
            theme="project",
            what=f"{name} catches up with {_EVENTS:,} events",
            unit="events/s",
            ours=median(paces),
        )


def _catch_up(projection: Projection, events: SqliteEventStore, models: SqliteModelStore) -> float:
    with closing(MemoryEventBus()) as bus:
        runner = ProjectionRunner(projection, events, models, bus)
        began = perf_counter()
        runner.start()
        try:
            if not runner.wait_for(_EVENTS, _TIMEOUT):
                raise TimeoutError(f"{runner.name} did not catch up: {runner.status()}")
            return _EVENTS / (perf_counter() - began)
        finally:
            runner.close(_TIMEOUT)
