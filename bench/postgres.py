"""PostgreSQL: appending to the log and reading it, beside psycopg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec
import psycopg
from psycopg.types.string import ByteaBinaryLoader

from bench.appends import ENOUGH, lone, rows, together
from bench.measure import Bench, Row, pace, rate, rate_of_threads
from bench.sample import adjustments, business, fill
from shop.bootstrap import event_registry, open_event_store
from shop.eventsourcing import Event, EventData
from tests.real.postgres import PostgresServer

_SECONDS = 0.4
_ROUNDS = 12
_EVENTS = 200_000
_TABLE = """
    CREATE TABLE raw_events (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id uuid NOT NULL UNIQUE,
        name text NOT NULL,
        time timestamptz NOT NULL,
        aggregate text NOT NULL,
        aggregate_id uuid NOT NULL,
        version bigint NOT NULL,
        data json NOT NULL,
        metadata json NOT NULL,
        UNIQUE (aggregate_id, aggregate, version)
    )
"""
_INSERT = (
    "INSERT INTO raw_events (id, name, time, aggregate, aggregate_id, version, data, metadata)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)


def run(bench: Bench) -> Iterator[Row]:
    """Appends of 1, 8 and 32 threads, then the log read into typed events."""
    with PostgresServer() as server:
        url = server.url("bench")
        with open_event_store(url, event_registry()) as store:
            store.head()  # makes the database
        yield from _appends(bench, url)
        yield from _reading(bench, server.url("bench", "schema=reading"))


def _appends(bench: Bench, url: str) -> Iterator[Row]:
    bench.say("postgres: 1, 8 and 32 threads in turns with 1 and 8 raw connections")
    events = adjustments(10)
    raws = [_connect(url) for _ in range(8)]
    raws[0].execute(_TABLE)

    def alone() -> float:
        parameters = [_row(event) for event in islice(events, ENOUGH)]
        return rate(lambda row: raws[0].execute(_INSERT, row), parameters, seconds=_SECONDS)

    with open_event_store(url, event_registry()) as store:
        samples = bench.in_turns(
            {
                "1 raw": alone,
                "1": lone(store, events, seconds=_SECONDS),
                "8 raw": _raw_together(raws),
                "8": together(store, 8, seconds=_SECONDS),
                "32": together(store, 32, seconds=_SECONDS),
            },
            rounds=_ROUNDS,
        )
    yield from rows(
        "postgres", samples, [("1", "1 raw", 0.7), ("8", "8 raw", 1.0), ("32", "8 raw", 1.5)]
    )


def _raw_together(connections: list[psycopg.Connection[Any]]) -> Callable[[], float]:
    """One event in each transaction, each thread with a connection of its own."""

    def measure() -> float:
        shares = [
            [(connection, _row(event)) for event in islice(adjustments(10), ENOUGH // 4)]
            for connection in connections
        ]
        return rate_of_threads(
            lambda pair: pair[0].execute(_INSERT, pair[1]), shares, seconds=_SECONDS
        )

    return measure


def _reading(bench: Bench, url: str) -> Iterator[Row]:
    bench.say(f"postgres: {_EVENTS:,} events read, in turns with the raw driver")
    registry = event_registry()
    decoders = {cls.wire.name: msgspec.json.Decoder(cls) for cls in registry}
    with open_event_store(url, registry) as store, _connect(url) as connection:
        fill(store, business(), _EVENTS)
        samples = bench.in_turns(
            {
                "raw": lambda: pace(_raw_read(connection, decoders), size=_EVENTS),
                "ours": lambda: pace(store.read(), size=_EVENTS),
            }
        )
    ours = samples.typical("ours")
    yield Row(
        theme="postgres",
        what="PostgreSQL: read into typed events (beside: fetch, decode data only)",
        unit="events/s",
        ours=ours,
        raw=samples.typical("raw"),
        ratio=samples.ratio("ours", "raw"),
        target="≥ 250,000",
        met=ours >= 250_000,
    )


def _raw_read(
    connection: psycopg.Connection[Any], decoders: dict[str, msgspec.json.Decoder[EventData]]
) -> Iterator[EventData]:
    """The data of all events, decoded, and nothing else of them."""
    with connection.transaction(), connection.cursor("log", binary=True) as cursor:  # by pages
        cursor.itersize = 1000
        cursor.execute("SELECT name, data FROM reading.events ORDER BY position")
        for name, data in cursor:
            yield decoders[name].decode(data)


def _connect(url: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url.partition("?")[0], autocommit=True, prepare_threshold=1)
    connection.adapters.register_loader("json", ByteaBinaryLoader)
    return connection


def _row(event: Event[EventData]) -> tuple[Any, ...]:
    """The columns of an event but for its position."""
    return (
        event.id,
        event.name,
        event.time,
        event.aggregate.name,
        event.aggregate.id,
        event.version,
        msgspec.json.encode(event.data).decode(),
        msgspec.json.encode(event.metadata).decode(),
    )
