"""Every store through one fixture; ``tests/stores.py`` has the kinds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shop.eventsourcing import EventStore
from tests.stores import DURABLE, KINDS, NewStorage, Storage, storages


@pytest.fixture(params=KINDS)
def new_storage(request: pytest.FixtureRequest) -> Iterator[NewStorage]:
    """Makes room for a new, empty store, of each kind in turn."""
    with storages(KINDS[request.param](request)) as new:
        yield new


@pytest.fixture
def store(new_storage: NewStorage) -> EventStore:
    """An empty event store, of each kind in turn."""
    return new_storage().open()


@pytest.fixture(params=DURABLE)
def durable(request: pytest.FixtureRequest) -> Iterator[Storage]:
    """The data of an empty store of each kind that outlives its process."""
    with storages(DURABLE[request.param](request)) as new:
        yield new()
