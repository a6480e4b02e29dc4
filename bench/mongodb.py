"""Appending to and reading from MongoDB, standalone, beside the raw driver."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import msgspec
from pymongo import WriteConcern
from pymongo.collection import Collection

from bench.appends import lone, rows, together
from bench.measure import Bench, Row, pace, rate, rate_of_threads
from bench.sample import adjustments, business, fill
from shop.bootstrap import event_registry, open_event_store
from shop.eventsourcing import Event, EventData
from tests.real.mongodb import MongoServer

_SECONDS = 0.15
_ROUNDS = 20
_ENOUGH = 1_000
_EVENTS = 100_000

Documents = Collection[dict[str, Any]]


def run(bench: Bench) -> Iterator[Row]:
    """One thread, then many, beside one event in each insert; then the log into typed events."""
    with MongoServer(replica_set=False) as server, server.client() as client:
        raw = client["raw"].get_collection("events", write_concern=WriteConcern(w=1, j=True))
        raw.create_index("id", unique=True)
        raw.create_index([("aggregate_id", 1), ("aggregate", 1), ("version", 1)], unique=True)
        yield from _appends(bench, server.url("appends"), raw)
        yield from _reading(bench, server.url("reading"), client["reading"]["commits"])


def _appends(bench: Bench, url: str, raw: Documents) -> Iterator[Row]:
    bench.say("mongodb: 1, 8 and 32 threads in turns with the raw driver")
    events, numbers = adjustments(10), count(1)

    def documents(size: int) -> list[dict[str, Any]]:
        return [_document(event, next(numbers)) for event in islice(events, size)]

    with open_event_store(url, event_registry()) as store:
        samples = bench.in_turns(
            {
                "1 raw": lambda: rate(raw.insert_one, documents(_ENOUGH), seconds=_SECONDS),
                "8 raw": lambda: rate_of_threads(
                    raw.insert_one, [documents(_ENOUGH // 2) for _ in range(8)], seconds=_SECONDS
                ),
                "1": lone(store, events),
                "8": together(store, 8),
                "32": together(store, 32),
            },
            rounds=_ROUNDS,
        )
    yield from rows(
        "mongodb", samples, [("1", "1 raw", 0.7), ("8", "8 raw", 1.0), ("32", "8 raw", 1.5)]
    )


def _reading(bench: Bench, url: str, commits: Documents) -> Iterator[Row]:
    bench.say(f"mongodb: {_EVENTS:,} events, in turns with the raw driver")
    registry = event_registry()

    def driver() -> Iterator[EventData]:
        for commit in commits.find({}, {"events": 1}, sort={"_id": 1}, batch_size=1):
            for event in commit["events"]:
                yield registry.convert(event["name"], event["schema"], event["data"])

    with open_event_store(url, registry) as store:
        fill(store, business(), _EVENTS)
        samples = bench.in_turns(
            {
                "raw": lambda: pace(driver(), size=_EVENTS),
                "ours": lambda: pace(store.read(), size=_EVENTS),
            },
            rounds=3,
        )
    ours = samples.typical("ours")
    yield Row(
        theme="mongodb",
        what="read the log into typed events (beside: fetch, decode data only)",
        unit="events/s",
        ours=ours,
        raw=samples.typical("raw"),
        ratio=samples.ratio("ours", "raw"),
        target="≥ 80,000",
        met=ours >= 80_000,
    )


def _document(event: Event[EventData], number: int) -> dict[str, Any]:
    """An event as a document of its own."""
    return {
        "_id": number,
        "id": str(event.id),
        "name": event.name,
        "time": int(event.time.timestamp() * 1_000_000),
        "aggregate": event.aggregate.name,
        "aggregate_id": str(event.aggregate.id),
        "version": event.version,
        "data": msgspec.to_builtins(event.data),
        "metadata": msgspec.to_builtins(event.metadata),
    }
