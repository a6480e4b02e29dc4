"""Reading rows of events page by page. For backends that keep events in tables."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shop.eventsourcing.events.decoding import COLUMNS, Row
from shop.eventsourcing.events.ordinal import GREATEST
from shop.eventsourcing.stores.store import Query

PAGE = 1000
"""Events per page."""


class Window(msgspec.Struct, frozen=True):
    """What is left to read, in the order of one column."""

    order: str
    """The column that pages are ordered by and continued at."""
    low: int
    high: int
    """The bounds of that column: what is left to read lies between them, both included."""
    reverse: bool
    left: int | None
    """How many more events are wanted, ``None`` for all."""

    @classmethod
    def of(cls, query: Query, order: str, low: int | None, high: int | None) -> Window:
        """All that a query asks for, in the order of a column and between these of its values."""
        return cls(
            order,
            0 if low is None else low,
            GREATEST if high is None else high,
            query.reverse,
            query.limit,
        )

    @property
    def size(self) -> int:
        """How many rows the next page has at most."""
        return PAGE if self.left is None else min(PAGE, self.left)

    @property
    def direction(self) -> str:
        """The order, in SQL."""
        return "DESC" if self.reverse else "ASC"

    def after(self, rows: Sequence[Row]) -> Window | None:
        """What is left after a page of these rows, ``None`` at the end."""
        left = None if self.left is None else self.left - len(rows)
        if len(rows) < self.size or left == 0:
            return None
        last = rows[-1][_COLUMN[self.order]]
        if self.reverse:
            return msgspec.structs.replace(self, high=last - 1, left=left)
        return msgspec.structs.replace(self, low=last + 1, left=left)


_COLUMN = {name: number for number, name in enumerate(COLUMNS.split(", "))}
