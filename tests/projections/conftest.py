"""Running shops, in memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shop.bootstrap import bootstrap
from shop.config import Settings
from tests.projections.trader import Trader


@pytest.fixture
def trader(local_url: str) -> Iterator[Trader]:
    """Trades in a shop whose projections run, empty at first."""
    with bootstrap(Settings(event_store=local_url)) as shop:
        yield Trader(shop)
