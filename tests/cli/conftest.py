"""A shop that runs in the background, for command lines in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import pytest

from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.domain.product import CreateProduct
from shop.eventsourcing import Command, ModelSession
from shop.projections.product_catalog import CatalogProduct
from shop.projections.shop_stats import STATS_ID, Stats
from shop.runtime import Shop

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"SHOP_EVENT_STORE": f"sqlite:///{tmp_path / 'shop.db'}"}


@pytest.fixture
def shop(environ: dict[str, str]) -> Iterator[Shop]:
    """A shop that runs in the background, with three products."""
    with bootstrap(Settings.from_env(environ)) as shop:
        for name in ("Mouse", "Keyboard", "Screen"):
            create(shop, name)
        yield shop


@pytest.fixture
def unread() -> Iterator[BinaryIO]:
    """The writing end of a pipe whose reader, such as ``head``, has had enough."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        yield pipe


def create(shop: Shop, name: str) -> UUID:
    result = shop.commands.dispatch(Command.new(CreateProduct(name=name, price=999, stock=5)))
    assert shop.wait_for(result.position, 10)
    return result.aggregate.id


def tamper(shop: Shop) -> None:
    """Have the read models say something that the log does not."""
    checkpoint = shop.models.checkpoint("shop_stats")
    assert checkpoint is not None
    session = ModelSession(shop.models, "shop_stats", checkpoint.generation, models=[Stats])
    session.position = checkpoint.position + 1
    session.put(STATS_ID, Stats(total_products=99))
    shop.models.commit(checkpoint, checkpoint, session.changes())


def forget_products(shop: Shop) -> None:
    """Have the catalog lack all products."""
    checkpoint = shop.models.checkpoint("product_catalog")
    assert checkpoint is not None
    session = ModelSession(
        shop.models, "product_catalog", checkpoint.generation, models=[CatalogProduct]
    )
    session.position = checkpoint.position + 1
    for id, _ in [*session.find(CatalogProduct)]:
        session.delete(CatalogProduct, id)
    shop.models.commit(checkpoint, checkpoint, session.changes())


def total_products(shop: Shop) -> int:
    stats = shop.reader("shop_stats").get(Stats, STATS_ID).value
    return stats.total_products if stats else 0
