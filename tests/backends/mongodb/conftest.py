"""A store on each kind of MongoDB server, and its database as any other program sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from shop.bootstrap import open_event_store
from shop.eventsourcing import EventStore
from shop.urls import DatabaseUrl
from tests.backends.mongodb.raw import Raw
from tests.notebook import registry
from tests.stores import NewUrl


@pytest.fixture(params=["mongodb", "mongodb_replica_set"])
def url(request: pytest.FixtureRequest) -> str:
    new_url: NewUrl = request.getfixturevalue(request.param)
    return new_url()


@pytest.fixture
def store(url: str) -> Iterator[EventStore]:
    with open_event_store(url, registry()) as store:
        yield store


@pytest.fixture
def raw(url: str) -> Iterator[Raw]:
    """The database of the store."""
    parts = DatabaseUrl.of(url)
    client: MongoClient[dict[str, Any]] = MongoClient(parts.driver)
    with client:
        yield client[parts.database]
