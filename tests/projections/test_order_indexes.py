"""How orders are found on SQLite: by an index, in order, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shop.backends.sqlite import Database, SqliteModelStore
from shop.backends.sqlite.database import Row
from shop.eventsourcing import Filter, ModelReader
from shop.eventsourcing.models.model import IndexValue
from shop.eventsourcing.models.model_store import Checkpoint
from shop.projections.customer_order_history import CustomerOrderHistory
from shop.projections.order_summary import OrderEntry, OrderSummary

ADA = uuid4()


class WatchedDatabase(Database):
    """Keeps the queries that were made."""

    def __init__(self, path: Path) -> None:
        self.queries: list[tuple[str, Sequence[Any]]] = []
        super().__init__(path)

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self.queries.append((sql, parameters))
        return super().read(sql, parameters)

    def plan(self, about: str) -> list[str]:
        """The steps of the one query that was made about something."""
        [(sql, parameters)] = [query for query in self.queries if about in query[0]]
        return [row[3] for row in self.read(f"EXPLAIN QUERY PLAN {sql}", parameters)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[WatchedDatabase]:
    database = WatchedDatabase(tmp_path / "shop.db")
    yield database
    database.close()


@pytest.mark.parametrize(
    "projection", [OrderSummary(), CustomerOrderHistory()], ids=lambda p: p.name
)
@pytest.mark.parametrize("after", [None, (7, "an order")], ids=["first page", "next page"])
@pytest.mark.parametrize(
    ("equal", "index"),
    [
        ({}, "in_order"),
        ({"customer_id": ADA}, "by_customer_id"),
        ({"status": "open"}, "by_status"),
        ({"customer_id": ADA, "status": "open"}, "by_"),
    ],
    ids=["all", "by customer", "by status", "by both"],
)
def test_orders_are_listed_newest_first_by_an_index_without_sorting(
    database: WatchedDatabase,
    projection: OrderSummary,
    equal: dict[str, IndexValue],
    index: str,
    after: tuple[int, str] | None,
) -> None:
    store = SqliteModelStore(database)
    store.prepare(projection.collections)
    store.commit(None, Checkpoint(projection.name, 1, 0, projection.shape, uuid4()))
    database.queries.clear()

    reader = ModelReader(store, projection.name)
    reader.find(OrderEntry, Filter(equal=equal, after=after, reverse=True))

    table = f"model_{projection.name}_order_entry"
    plan = database.plan(about=table)
    [search] = [step for step in plan if step.startswith("SEARCH m ")]
    assert search.startswith(f"SEARCH m USING INDEX {table}_{index}")
    assert not any("SCAN" in step or "B-TREE" in step for step in plan)
