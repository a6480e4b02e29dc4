"""Running shops, on each kind of store in turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shop.bootstrap import bootstrap
from shop.config import Settings
from tests.projections.trader import Trader


@pytest.fixture(params=["memory", "sqlite"])
def trader(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trader]:
    """Trades in a shop whose projections run, empty at first."""
    sqlite = f"sqlite:///{tmp_path / 'shop.db'}"
    with bootstrap(
        Settings(event_store=sqlite if request.param == "sqlite" else "memory://")
    ) as shop:
        yield Trader(shop)
