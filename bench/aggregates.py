"""Loading an aggregate, changing it and saving it, whatever its history."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from statistics import median
from time import perf_counter
from uuid import UUID

from bench.measure import Bench, Row, rate
from bench.sample import adjustments, history
from shop.backends.sqlite import Database, SqliteEventStore, SqliteSnapshotStore
from shop.bootstrap import event_registry
from shop.domain.product import Product
from shop.eventsourcing import Aggregates, Repository, new_id

_SECONDS = 0.2
_ROUNDS = 20
_ENOUGH = 3_000
# The short histories are many, so that they are still short after some thousand changes.
_HISTORIES = {10: 2_000, 1_000: 20, 10_000: 2}
_RESTARTS = 5


def run(bench: Bench) -> Iterator[Row]:
    """Change products with short and with long histories, in turns with plain appends."""
    bench.say("aggregate: load, change and save, in turns with plain appends")
    path = bench.directory / "ours.db"
    registry = event_registry()
    database = Database(path)
    store = SqliteEventStore(database, registry, owns_database=True)
    products = {size: [new_id() for _ in range(many)] for size, many in _HISTORIES.items()}
    events = adjustments(10)
    with store:
        for size, ids in products.items():
            for first in range(0, len(ids), 500):
                group = ids[first : first + 500]
                store.append([event for id in group for event in history(id, size)])
        aggregates = Aggregates(store, SqliteSnapshotStore(database))

        def append() -> float:
            ready = list(islice(events, _ENOUGH))
            return rate(lambda event: store.append([event]), ready, seconds=_SECONDS)

        sides: dict[str, Callable[[], float]] = {"append": append}
        for size, ids in products.items():
            sides[str(size)] = _changes(aggregates, ids)
        samples = bench.in_turns(sides, rounds=_ROUNDS)
    for size in _HISTORIES:
        ratio = samples.ratio(str(size), "append")
        yield Row(
            theme="aggregate",
            what=f"load-change-save, {size:,} events (beside: our lone append)",
            unit="changes/s",
            ours=samples.typical(str(size)),
            raw=samples.typical("append"),
            ratio=ratio,
            target="ratio ≥ 0.6",
            met=ratio >= 0.6,
        )
    flat = samples.ratio("10000", "10")
    yield Row(
        theme="aggregate",
        what="load-change-save, 10,000 events (beside: 10 events)",
        unit="changes/s",
        ours=samples.typical("10000"),
        raw=samples.typical("10"),
        ratio=flat,
        target="ratio ≥ 0.8",
        met=flat >= 0.8,
    )
    yield from _cold(bench, products[10_000][0])


def _changes(aggregates: Aggregates, ids: Sequence[UUID]) -> Callable[[], float]:
    """Change the products in turn, all of them loaded before."""
    repository = Repository(aggregates, Product)
    for id in ids:
        repository.get(id)
    endless = cycle(ids)

    def change(id: UUID) -> None:
        repository.use(id, lambda product: product.adjust_stock(1, "delivered"))

    return lambda: rate(change, endless, seconds=_SECONDS)


def _cold(bench: Bench, id: UUID) -> Iterator[Row]:
    """The first load after a restart, with and without a snapshot to begin at."""
    bench.say("aggregate: the first load after a restart")
    with_snapshot: list[float] = []
    without: list[float] = []
    for _ in range(_RESTARTS):
        for times, snapshots in ((with_snapshot, True), (without, False)):
            database = Database(bench.directory / "ours.db")
            store = SqliteEventStore(database, event_registry(), owns_database=True)
            with store:
                aggregates = Aggregates(store, SqliteSnapshotStore(database) if snapshots else None)
                gc.collect()
                began = perf_counter()
                aggregates.load(Product, id)
                times.append(1000 * (perf_counter() - began))
    for what, times in (("with a snapshot", with_snapshot), ("without", without)):
        yield Row(
            theme="aggregate",
            what=f"first load after a restart, 10,000 events, {what}",
            unit="ms",
            ours=median(times),
        )
