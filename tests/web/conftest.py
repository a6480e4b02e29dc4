"""A shop over HTTP, on every kind of store in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shop.runtime import Shop
from shop.web import create_app
from tests.web.shopper import Shopper, open_shop


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'shop.db'}"


@pytest.fixture
def shop(store_url: str) -> Iterator[Shop]:
    """A running shop, empty at first."""
    with open_shop(store_url) as shop:
        yield shop


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    return Shopper(create_app(shop))


@pytest.fixture
def memory_shop() -> Iterator[Shop]:
    """A running shop for tests that say nothing of stores."""
    with open_shop("memory://") as shop:
        yield shop


@pytest.fixture
def client(memory_shop: Shop) -> Shopper:
    return Shopper(create_app(memory_shop))
