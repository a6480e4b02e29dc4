"""A MongoDB database as any other program sees it."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database as DriverDatabase

from shop.urls import DatabaseUrl

Raw = DriverDatabase[dict[str, Any]]


def named(url: str, name: str) -> str:
    """What a collection of the store is called there."""
    return DatabaseUrl.of(url).prefix + name
