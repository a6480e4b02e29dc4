"""SQLite's query plans: no query of the log looks at all of it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shop.backends.sqlite import Database, SqliteEventStore
from shop.backends.sqlite.query import Page, plan
from shop.eventsourcing import Query
from tests.backends.long_log import EVENTS, QUERIES, fill
from tests.notebook import note, noted, positions, registry


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Where the long log is."""
    database = Database(tmp_path_factory.mktemp("plans") / "events.db")
    fill(SqliteEventStore(database, registry()))
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> SqliteEventStore:
    return SqliteEventStore(database, registry())


def query_plan(database: Database, query: Query) -> str:
    """How SQLite goes about the first page of a query."""
    page = plan(query, database.read)
    assert page is not None
    steps = database.read(f"EXPLAIN QUERY PLAN {page.sql}", page.parameters)
    return "\n".join(str(step[3]) for step in steps)


BY_POSITION = "INTEGER PRIMARY KEY"
BY_ID = "sqlite_autoindex_events_1 (id=?"
BY_STREAM = "sqlite_autoindex_events_2 (aggregate_id=?"
BY_NAME = "events_by_name (name=?"

LED_BY = {
    "after": BY_POSITION,
    "newest": BY_POSITION,
    "ids": BY_ID,
    "many ids": BY_ID,
    "ref": BY_STREAM,
    "ref from version": BY_STREAM,
    "several refs": BY_STREAM,
    "many refs between versions": f"{BY_STREAM} AND aggregate=? AND version>? AND version<?)",
    "ref and name": BY_STREAM,
    "aggregate id": BY_STREAM,
    "name": BY_NAME,
    "name after": BY_NAME,
    "newest of a name": BY_NAME,
    "several names": BY_NAME,
    "aggregate": BY_NAME,
}


@pytest.mark.parametrize(("name", "index"), LED_BY.items(), ids=LED_BY)
def test_a_query_is_led_by_an_index(database: Database, name: str, index: str) -> None:
    steps = query_plan(database, QUERIES[name])
    assert index in steps
    assert "SCAN events" not in steps
    assert "AUTOMATIC" not in steps  # no index that is made for one query alone


@pytest.mark.parametrize("name", ["name", "newest of a name", "ref", "aggregate id", "after"])
def test_one_value_is_read_in_the_order_of_its_index(database: Database, name: str) -> None:
    assert ("TEMP B-TREE" in query_plan(database, QUERIES[name])) == (name == "aggregate id")


def test_a_span_of_time_is_found_without_a_look_at_all_events(
    database: Database, store: SqliteEventStore
) -> None:
    [middle] = store.read(Query(after=EVENTS // 2, limit=1))
    query = Query(since=middle.time, until=middle.time + timedelta(milliseconds=1))
    asked: list[str] = []

    def read(sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        asked.extend(step[3] for step in database.read(f"EXPLAIN QUERY PLAN {sql}", parameters))
        return database.read(sql, parameters)

    page = plan(query, read)
    assert page is not None
    assert 0 < page.window.high - page.window.low < EVENTS // 10
    assert "SCAN events" not in "\n".join(asked) + query_plan(database, query)
    assert middle in list(store.read(query))


def test_times_that_do_not_run_along_with_positions_are_found_all_the_same(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    # Mostly in order, with clocks that are off by anything: over whole blocks and the last one.
    times = [
        begin + timedelta(seconds=n + (chance.randint(-900, 900) if n % 40 == 0 else 0))
        for n in range(3 * 1024 + 100)
    ]
    database = Database(tmp_path / "clocks.db")
    with SqliteEventStore(database, registry(), owns_database=True) as store:
        for first in range(0, len(times), 700):
            some = times[first : first + 700]
            store.append([noted(note(), 1, time=time) for time in some])
        for _ in range(60):
            since, until = sorted(chance.choices(times, k=2))
            for query in (Query(since=since, until=until), Query(since=since), Query(until=until)):
                expected = [n for n, time in enumerate(times, 1) if in_span(time, query)]
                assert positions(store.read(query)) == expected


def in_span(time: datetime, query: Query) -> bool:
    return (query.since is None or time >= query.since) and (
        query.until is None or time <= query.until
    )


def run_counted(page: Page, count: Callable[[], None], connection: sqlite3.Connection) -> None:
    """Run a page and have each hundred steps of SQLite's machine counted."""
    connection.set_progress_handler(count, 100)
    connection.execute(page.sql, page.parameters).fetchall()
    connection.set_progress_handler(None, 100)


def test_a_page_from_the_middle_looks_at_its_own_events_alone(database: Database) -> None:
    """However long the log is: what a page costs depends on the page."""
    for name in ("after", "name after", "newest of a name", "several names", "aggregate"):
        steps = 0

        def count() -> None:
            nonlocal steps
            steps += 1

        page = plan(QUERIES[name], database.read)
        assert page is not None
        database.write(partial(run_counted, page, count))
        assert 0 < steps < 100, f"{name} took {steps} hundred steps"
