"""The read of the shop's figures."""

from __future__ import annotations

from shop.application import Answer, NoQuery, Read
from shop.projections.shop_stats import STATS_ID, ShopStats, Stats
from shop.runtime import Shop


def get_stats(shop: Shop, query: NoQuery) -> Answer:
    """Figures of the whole shop."""
    found = shop.reader(ShopStats.name).get(Stats, STATS_ID)
    return Answer(found.value or Stats(), found.position)


READS = (Read(path="/stats", answer=get_stats, shape=Stats, projection=ShopStats.name),)
