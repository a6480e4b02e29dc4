"""Appending to the log on SQLite, durably."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from bench import raw
from bench.measure import Bench, Row, rate, rate_of_threads
from bench.sample import adjustments
from shop.bootstrap import event_registry, open_event_store
from shop.eventsourcing import Event, EventData, EventStore

_SECONDS = 0.15
# Many short rounds: a disk that others use may stall for a second.
_ROUNDS = 40
_ENOUGH = 4_000
"""Events made before the clock starts: more than a round can append."""


def run(bench: Bench) -> Iterator[Row]:
    """One thread, then many, beside the raw driver with one event in each transaction."""
    bench.say("appends: 1, 8 and 32 threads in turns with the raw driver")
    events = adjustments(10)
    log = raw.RawLog(bench.directory / "raw.db")
    store = open_event_store(f"sqlite:///{bench.directory / 'ours.db'}", event_registry())

    def driver() -> float:
        rows = [raw.row(event) for event in islice(events, _ENOUGH)]
        return rate(log.append, rows, seconds=_SECONDS)

    with store:
        samples = bench.in_turns(
            {
                "raw": driver,
                "1": lone(store, events),
                "8": together(store, 8),
                "32": together(store, 32),
            },
            rounds=_ROUNDS,
        )
    log.close()
    for threads, least, what in (
        ("1", 0.7, "append, 1 thread"),
        ("8", 2.0, "append, 8 threads"),
        ("32", None, "append, 32 threads"),
    ):
        ratio = samples.ratio(threads, "raw")
        yield Row(
            theme="append",
            what=what,
            unit="events/s",
            ours=samples.typical(threads),
            raw=samples.typical("raw"),
            ratio=ratio,
            target="" if least is None else f"ratio ≥ {least:g}",
            met=None if least is None else ratio >= least,
        )


def lone(store: EventStore, events: Iterator[Event[EventData]]) -> Callable[[], float]:
    """One thread appends, one event after the other."""
    return lambda: rate(
        lambda event: store.append([event]), list(islice(events, _ENOUGH)), seconds=_SECONDS
    )


def together(store: EventStore, threads: int) -> Callable[[], float]:
    """All threads append to aggregates of their own."""

    def measure() -> float:
        items = [list(islice(adjustments(10), _ENOUGH // threads * 2)) for _ in range(threads)]
        return rate_of_threads(lambda event: store.append([event]), items, seconds=_SECONDS)

    return measure
