"""Shops to test the rules on: a scenario for one thread, the real one on each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from shop.backends.memory import MemoryEventStore
from shop.bootstrap import MODULES, bootstrap
from shop.config import Settings
from shop.eventsourcing import CommandPayload, Registry
from shop.eventsourcing.testing import Scenario
from shop.runtime import Shop


@pytest.fixture
def scenario() -> Scenario:
    """All commands of the shop, nothing having happened yet."""
    return Scenario(MemoryEventStore, *MODULES)


@pytest.fixture
def commands() -> Registry[CommandPayload]:
    """All commands of the shop, by name."""
    return Registry(payload for module in MODULES for payload in module.handlers)


@pytest.fixture
def shop(local_url: str) -> Iterator[Shop]:
    """An empty shop for many threads, in memory and in a file; its own are not started."""
    with closing(bootstrap(Settings(event_store=local_url))) as shop:
        yield shop
