"""Stores on PostgreSQL, with the database under them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shop.backends.postgres import Database, PostgresEventStore, PostgresModelStore
from shop.urls import DatabaseUrl
from tests.notebook import registry


class Opened:
    """Stores with the database under them."""

    def __init__(self, url: str) -> None:
        parts = DatabaseUrl.of(url)
        self.database = Database(
            parts.driver, "the database", schema=parts.schema, timeout=parts.timeout
        )
        self.store = PostgresEventStore(self.database, registry(), owns_database=True)
        self.models = PostgresModelStore(self.database)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exception: object) -> None:
        self.store.close()

    def plans(self, ask: Callable[[], object]) -> list[dict[str, Any]]:
        """What the server does for each statement that asking reads by."""
        read, plans = self.database.read, []

        def explaining(sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
            with self.database.connection() as connection:
                cursor = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters)
                plans.append(cursor.fetchall()[0][0][0]["Plan"])
            return read(sql, parameters)

        self.database.read = explaining  # type: ignore[method-assign]  # to look over its shoulder
        ask()
        self.database.read = read  # type: ignore[method-assign]  # as it was
        return plans
