"""Reading the log page by page, each page through the index that leads to it.

SQLite, left alone with ``name IN (…) ORDER BY position LIMIT n``, either scans the whole log or
collects and sorts all matches for every page. So one condition is chosen to *drive* the page: each
of its values is looked up in its index, which lies in the order of positions, and only the first
``n`` of each are merged. The other conditions filter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from shop.eventsourcing.events.decoding import COLUMNS
from shop.eventsourcing.events.ordinal import GREATEST
from shop.eventsourcing.events.times import microseconds
from shop.eventsourcing.stores.paging import Window
from shop.eventsourcing.stores.store import Query

Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs a query and returns its rows."""

_MOST_VALUES = 100
"""A driving condition with more values than this is left to SQLite: a compound has its limits."""
_MOST_KEYS = 10
"""The same for ids and aggregates: few events have each, so to sort them costs less than an arm."""

HEAD = "SELECT coalesce(max(position), 0) FROM events"
"""The last position, 0 in an empty log."""

FROM_BASE64 = "from_base64"
"""The SQL function that connections must have: JSON knows no blobs."""

_BLOBS = frozenset({"id", "aggregate_id"})
_POSITIONS_BETWEEN = """
    SELECT coalesce(min(low), 1), coalesce(max(high), 0) FROM (
        SELECT block * 1024 - 1023 AS low, block * 1024 AS high FROM time_blocks
        WHERE latest >= ? AND earliest <= ?
        UNION ALL
        SELECT min(position), max(position) FROM events
        WHERE position > (SELECT coalesce(max(block), 0) * 1024 FROM time_blocks)
            AND time >= ? AND time <= ?)
"""
_ID = ("id",)
_STREAM = ("aggregate_id", "aggregate")


class Condition(msgspec.Struct, frozen=True):
    """A piece of a WHERE clause and its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """Columns that must hold one of several rows of values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def arms(self) -> tuple[Condition, ...]:
        """One condition for each row of values."""
        sql = " AND ".join(f"{column} = ?" for column in self.columns)
        return tuple(Condition(sql, row) for row in self.rows)

    def whole(self, prefix: str = "") -> Condition:
        """One condition for all. A ``+`` as prefix keeps SQLite from driving by it."""
        columns = ", ".join(prefix + column for column in self.columns)
        values = [f"json_extract(value, '$[{i}]')" for i in range(len(self.columns))]
        values = [
            f"{FROM_BASE64}({value})" if column in _BLOBS else value
            for column, value in zip(self.columns, values, strict=True)
        ]
        # All values are one parameter: the number of parameters is limited, that of values is not.
        return Condition(
            f"({columns}) IN (SELECT {', '.join(values)} FROM json_each(?))",
            (msgspec.json.encode(self.rows).decode(),),
        )


class Page(msgspec.Struct, frozen=True):
    """One page of a query, and how to go on after it."""

    drivers: tuple[Condition, ...]
    """The events wanted match one of these."""
    filters: tuple[Condition, ...]
    """And all of these."""
    window: Window

    @property
    def sql(self) -> str:
        """The statement."""
        order, direction, size = self.window.order, self.window.direction, self.window.size
        tail = f"ORDER BY {order} {direction} LIMIT {size}"
        filters = " AND ".join(
            [f"{order} BETWEEN ? AND ?", *(filter.sql for filter in self.filters)]
        )
        if len(self.drivers) == 1:
            where = f"{self.drivers[0].sql} AND {filters}"
            return f"SELECT {COLUMNS} FROM events WHERE {where} {tail}"
        arms = " UNION ALL ".join(
            f"SELECT * FROM (SELECT position FROM events WHERE {driver.sql} AND {filters} {tail})"
            for driver in self.drivers
        )
        return (
            f"SELECT {COLUMNS} FROM events WHERE position IN"
            f" (SELECT position FROM ({arms}) {tail}) {tail}"
        )

    @property
    def parameters(self) -> list[Any]:
        """The statement's parameters."""
        filters: list[Any] = [self.window.low, self.window.high]
        filters += [p for filter in self.filters for p in filter.parameters]
        return [p for driver in self.drivers for p in (*driver.parameters, *filters)]

    def next(self, rows: Sequence[tuple[Any, ...]]) -> Page | None:
        """The page after these rows, ``None`` at the end."""
        window = self.window.after(rows)
        return None if window is None else msgspec.structs.replace(self, window=window)


def plan(query: Query, read: Read) -> Page | None:
    """The first page of a query, ``None`` where nothing can match.

    A few kinds of queries need a look into the database first, by ``read``.
    """
    choices = _choices(query)
    if query.aggregates is not None and len(choices) == 1:
        # A kind that comes up after this look would be left out while its neighbours are read. So
        # nothing beyond the present head is read.
        [(head,)] = read(HEAD, ())
        choices.insert(0, _names_of(query.aggregates, read))
        query = query.up_to(head)
    if query.limit == 0 or query.after == GREATEST or any(not choice.rows for choice in choices):
        return None
    bounds = {"position": (query.after + 1 if query.after else None, query.to)}
    bounds["version"] = query.versions
    drivers: tuple[Condition, ...] = (Condition("TRUE"),)
    order, filters = "position", _times(query)
    if choices:
        driver, *others = choices
        filters += [choice.whole("+") for choice in others]
        most = _MOST_KEYS if driver.columns in (_ID, _STREAM) else _MOST_VALUES
        drivers = driver.arms() if len(driver.rows) <= most else (driver.whole(),)
        if driver.columns == _STREAM and len(driver.rows) == 1:
            order = "version"  # the same order in one stream, and that of its index
    elif filters:
        bounds["position"] = _positions_between(query, read)
    low, high = bounds.pop(order)
    indexed = ["version"] if choices and choices[0].columns == _STREAM else []
    return Page(
        drivers=drivers,
        filters=(
            *filters,
            *(
                condition
                for column, limits in bounds.items()
                for condition in _within(column, limits, indexed=column in indexed)
            ),
        ),
        window=Window.of(query, order, low, high),
    )


def _choices(query: Query) -> list[Choice]:
    """The conditions on several values, the most selective first."""
    values = (
        (_ID, query.ids, lambda id: (id.bytes,)),
        (_STREAM, query.refs, lambda ref: (ref.id.bytes, ref.name)),
        (("aggregate_id",), query.aggregate_ids, lambda id: (id.bytes,)),
        (("name",), query.names, lambda name: (name,)),
        (("aggregate",), query.aggregates, lambda name: (name,)),
    )
    return [
        Choice(columns, tuple({row(value) for value in chosen}))
        for columns, chosen, row in values
        if chosen is not None
    ]


def _names_of(aggregates: Collection[str], read: Read) -> Choice:
    """The names of all events of these aggregates: names have an index, aggregates have none."""
    marks = ", ".join("?" * len(aggregates))
    names = read(
        f"SELECT DISTINCT name FROM event_kinds WHERE aggregate IN ({marks})", [*aggregates]
    )
    return Choice(("name",), tuple(names))


def _times(query: Query) -> list[Condition]:
    since = None if query.since is None else microseconds(query.since)
    until = None if query.until is None else microseconds(query.until)
    return _within("time", (since, until))


def _within(
    column: str, limits: tuple[int | None, int | None], *, indexed: bool = False
) -> list[Condition]:
    """Conditions that filter, by the driver's index if the column is in it.

    If it is not, a ``+`` keeps SQLite from driving by them.
    """
    low, high = limits
    operand = column if indexed else f"+{column}"
    conditions = []
    if low is not None:
        conditions.append(Condition(f"{operand} >= ?", (low,)))
    if high is not None:
        conditions.append(Condition(f"{operand} <= ?", (high,)))
    return conditions


def _positions_between(query: Query, read: Read) -> tuple[int, int]:
    """Positions between which all events of the time asked for are, within those asked for.

    Found by the blocks of the log whose range of times overlaps, and a look through the events
    after the last whole block. The events between the two positions are nearly all wanted.
    """
    since = -GREATEST if query.since is None else microseconds(query.since)
    until = GREATEST if query.until is None else microseconds(query.until)
    [(low, high)] = read(_POSITIONS_BETWEEN, (since, until, since, until))
    to = high if query.to is None else min(query.to, high)
    return max(query.after + 1, low), to
