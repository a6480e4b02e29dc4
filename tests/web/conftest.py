"""A shop over HTTP: in one process, on every kind of store, and as a web node beside a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from shop.config import Settings
from shop.runtime import Shop
from shop.web import create_app
from tests.web.shopper import Shopper, open_shop, running

in_one_process = pytest.mark.parametrize("settings", ["memory", "sqlite"], indirect=True)
"""For tests of what a process tells about itself: a worker does not do it over HTTP."""


@pytest.fixture(params=["memory", "sqlite", "web"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Those of a shop in one process, on one kind of store after the other, and of a web node."""
    if request.param == "memory":
        return Settings(event_store="memory://")
    alone = Settings(event_store=f"sqlite:///{tmp_path / 'shop.db'}")
    if request.param == "sqlite":
        return alone
    nats = request.getfixturevalue("nats")
    bus = f"nats://{nats}?prefix=t{uuid4().hex}"
    return Settings(event_store=alone.event_store, event_bus=bus, role="web")


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """A running shop, empty at first."""
    with running(settings) as shop:
        yield shop


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    return Shopper(create_app(shop))


@pytest.fixture
def memory_shop() -> Iterator[Shop]:
    """A running shop for tests that say nothing of stores and processes."""
    with open_shop("memory://") as shop:
        yield shop


@pytest.fixture
def client(memory_shop: Shop) -> Shopper:
    return Shopper(create_app(memory_shop))
