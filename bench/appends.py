"""Appending to the log on SQLite, durably."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from bench import raw
from bench.measure import Bench, Row, Samples, as_served, rate, rate_of_threads
from bench.sample import adjustments
from shop.bootstrap import event_registry, open_event_store
from shop.eventsourcing import Event, EventData, EventStore

_SECONDS = 0.15
# Many short rounds: a disk that others use may stall for a second.
_ROUNDS = 40
ENOUGH = 4_000
"""Events made before the clock starts: more than a round can append."""


def run(bench: Bench) -> Iterator[Row]:
    """One thread, then many, beside the raw driver with one event in each transaction."""
    bench.say("appends: 1, 8 and 32 threads in turns with the raw driver")
    events = adjustments(10)
    log = raw.RawLog(bench.directory / "raw.db")
    store = open_event_store(f"sqlite:///{bench.directory / 'ours.db'}", event_registry())

    def driver() -> float:
        rows = [raw.row(event) for event in islice(events, ENOUGH)]
        return rate(log.append, rows, seconds=_SECONDS)

    with store:
        samples = bench.in_turns(
            {
                "1 raw": driver,
                "1": lone(store, events),
                "8": together(store, 8),
                "32": together(store, 32),
            },
            rounds=_ROUNDS,
        )
    log.close()
    yield from rows(
        "append", samples, [("1", "1 raw", 0.7), ("8", "1 raw", 2.0), ("32", "1 raw", None)]
    )


def rows(
    theme: str, samples: Samples, sides: Iterable[tuple[str, str, float | None]]
) -> Iterator[Row]:
    """A row for each number of threads: (threads, the side that it is beside, least ratio)."""
    for threads, beside, least in sides:
        ratio = samples.ratio(threads, beside)
        yield Row(
            theme=theme,
            what=f"append, {threads} thread{'s' * (threads != '1')} (beside: {beside})",
            unit="events/s",
            ours=samples.typical(threads),
            raw=samples.typical(beside),
            ratio=ratio,
            target="" if least is None else f"ratio ≥ {least:g}",
            met=None if least is None else ratio >= least,
        )


def lone(
    store: EventStore, events: Iterator[Event[EventData]], *, seconds: float = _SECONDS
) -> Callable[[], float]:
    """One thread appends, for so many seconds each round."""
    return as_served(
        lambda: rate(
            lambda event: store.append([event]), list(islice(events, ENOUGH)), seconds=seconds
        )
    )


def together(store: EventStore, threads: int, *, seconds: float = _SECONDS) -> Callable[[], float]:
    """So many threads append, each to aggregates of its own, for so many seconds each round."""

    def measure() -> float:
        items = [list(islice(adjustments(10), ENOUGH // threads * 2)) for _ in range(threads)]
        return rate_of_threads(lambda event: store.append([event]), items, seconds=seconds)

    return as_served(measure)
