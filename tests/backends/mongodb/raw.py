"""A MongoDB database as any other program sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database as DriverDatabase

from shop.urls import DatabaseUrl

Raw = DriverDatabase[dict[str, Any]]


@contextmanager
def raw_database(url: str) -> Iterator[Raw]:
    """The database of a store's URL."""
    parts = DatabaseUrl.of(url)
    client: MongoClient[dict[str, Any]] = MongoClient(parts.driver)
    with client:
        yield client[parts.database]


def named(url: str, name: str) -> str:
    """What a collection of the store is called there."""
    return DatabaseUrl.of(url).prefix + name
