"""Reading the log page by page, each page through the index that leads to it.

PostgreSQL, left alone with ``name = ANY (…) ORDER BY position LIMIT n``, either filters the whole
log or sorts all matches for every page. So one condition is chosen to *drive* the page: each of its
values is looked up by itself, in an index that lies in the order of positions, and only the first
``n`` of each are merged. The other conditions filter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from shop.backends.postgres.connections import Row
from shop.backends.postgres.names import Names
from shop.eventsourcing.events.decoding import COLUMNS
from shop.eventsourcing.events.ordinal import GREATEST
from shop.eventsourcing.stores.paging import Window
from shop.eventsourcing.stores.store import Query

Read = Callable[[str, Mapping[str, Any]], list[Row]]
"""Runs a query and returns its rows."""

_STREAM = ("aggregate_id", "aggregate")


class Choice(msgspec.Struct, frozen=True):
    """Columns that must hold one of several rows of values, given as arrays, one a column."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    values: tuple[list[Any], ...]

    @property
    def parameters(self) -> dict[str, list[Any]]:
        """The arrays."""
        return dict(zip(map(self._parameter, self.columns), self.values, strict=True))

    @property
    def drives(self) -> str:
        """A FROM item with the values, for :attr:`matches`."""
        return f"{self._unnested} AS wanted({', '.join(self.columns)})"

    @property
    def matches(self) -> str:
        """That an event has the values of one row of them."""
        return " AND ".join(f"events.{column} = wanted.{column}" for column in self.columns)

    @property
    def filters(self) -> str:
        """That an event has the values of any row of them."""
        columns = ", ".join(self.columns)
        return f"({columns}) IN (SELECT * FROM {self._unnested})"

    @property
    def _unnested(self) -> str:
        arrays = (
            f"%({self._parameter(column)})s::{type}[]"
            for column, type in zip(self.columns, self.types, strict=True)
        )
        return f"unnest({', '.join(arrays)})"

    def _parameter(self, column: str) -> str:
        return f"{'_'.join(self.columns)}_{column}"


class Page(msgspec.Struct, frozen=True):
    """One page of a query, and how to go on after it."""

    table: str
    driver: Choice | None
    indexed: tuple[str, ...]
    """Filters by columns of the driver's index."""
    filters: tuple[str, ...]
    values: Mapping[str, Any]
    """The parameters of all filters."""
    window: Window

    @property
    def sql(self) -> str:
        """The statement."""
        order = self.window.order
        tail = f"ORDER BY {order} {self.window.direction} LIMIT %(size)s"
        where = " AND ".join([f"{order} BETWEEN %(low)s AND %(high)s", *self.filters])
        if self.driver is None:
            return f"SELECT {COLUMNS} FROM {self.table} AS events WHERE {where} {tail}"
        matching = f"{self.table} AS events WHERE {self.driver.matches} AND {where}"
        if self.driver.columns != ("name",) and order == "position":
            # Its index has another order. OFFSET 0 keeps PostgreSQL from one that has this order.
            matching = (
                f"(SELECT * FROM {self.table} AS events"
                f" WHERE {' AND '.join([self.driver.matches, *self.indexed])} OFFSET 0)"
                f" AS events WHERE {where}"
            )
        return (
            f"SELECT {', '.join(f'found.{c}' for c in COLUMNS.split(', '))}"
            f" FROM {self.driver.drives}"
            f" CROSS JOIN LATERAL (SELECT {COLUMNS} FROM {matching} {tail}) AS found"
            f" {tail.replace(order, f'found.{order}')}"
        )

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The statement's parameters."""
        window = self.window
        own = {"low": window.low, "high": window.high, "size": window.size}
        return {**self.values, **own, **(self.driver.parameters if self.driver else {})}

    def next(self, rows: Sequence[Row]) -> Page | None:
        """The page after these rows, ``None`` at the end."""
        window = self.window.after(rows)
        return None if window is None else msgspec.structs.replace(self, window=window)


def plan(query: Query, names: Names, read: Read) -> Page | None:
    """The first page of a query, ``None`` where nothing can match.

    A few kinds of queries need a look into the database first, by ``read``.
    """
    choices = _choices(query)
    if query.aggregates is not None and len(choices) == 1:
        # A kind that comes up after this look would be left out while its neighbours are read. So
        # nothing beyond the present head is read.
        [(head,)] = read(names.head, {})
        choices.insert(0, _names_of(choices[0], names, read))
        query = query.up_to(head)
    if (
        query.limit == 0
        or query.after == GREATEST
        or any(not choice.values[0] for choice in choices)
    ):
        return None
    bounds: dict[str, tuple[int | None, int | None]] = {
        "position": (query.after + 1 if query.after else None, query.to),
        "version": query.versions,
    }
    values: dict[str, Any] = {"since": query.since, "until": query.until}
    filters = [
        condition
        for name, condition in (("since", "time >= %(since)s"), ("until", "time <= %(until)s"))
        if values[name] is not None
    ]
    driver = choices[0] if choices else None
    order = "position"
    if driver is not None and driver.columns == _STREAM and len(driver.values[0]) == 1:
        order = "version"  # the same order in one stream, and that of its index
    elif driver is None and filters:
        bounds["position"] = _positions_between(query, filters, values, names, read)
    low, high = bounds.pop(order)
    indexed: list[str] = []
    for column, (least, greatest) in bounds.items():
        in_index = column == "version" and driver is not None and driver.columns == _STREAM
        conditions = indexed if in_index else filters
        conditions += [f"{column} >= %(least_{column})s"] if least is not None else []
        conditions += [f"{column} <= %(greatest_{column})s"] if greatest is not None else []
        values |= {f"least_{column}": least, f"greatest_{column}": greatest}
    for choice in choices[1:]:
        filters.append(choice.filters)
        values |= choice.parameters
    return Page(
        table=names.events,
        driver=driver,
        indexed=tuple(indexed),
        filters=tuple(filters),
        values={name: value for name, value in values.items() if value is not None},
        window=Window.of(query, order, low, high),
    )


def _choices(query: Query) -> list[Choice]:
    """The conditions on several values, the most selective first."""
    refs = None if query.refs is None else [(ref.id, ref.name) for ref in set(query.refs)]
    choices: list[Choice] = []
    if query.ids is not None:
        choices.append(Choice(("id",), ("uuid",), (list(set(query.ids)),)))
    if refs is not None:
        columns = ([id for id, _ in refs], [name for _, name in refs])
        choices.append(Choice(_STREAM, ("uuid", "text"), columns))
    if query.aggregate_ids is not None:
        ids = list(set(query.aggregate_ids))
        choices.append(Choice(("aggregate_id",), ("uuid",), (ids,)))
    if query.names is not None:
        choices.append(Choice(("name",), ("text",), (list(set(query.names)),)))
    if query.aggregates is not None:
        choices.append(Choice(("aggregate",), ("text",), (list(set(query.aggregates)),)))
    return choices


def _names_of(aggregates: Choice, names: Names, read: Read) -> Choice:
    """The names of all events of these aggregates: names have an index, aggregates have none."""
    rows = read(
        f"SELECT DISTINCT name FROM {names.table('event_kinds')} WHERE aggregate = ANY (%(all)s)",
        {"all": aggregates.values[0]},
    )
    return Choice(("name",), ("text",), ([name for (name,) in rows],))


def _positions_between(
    query: Query, filters: Sequence[str], values: Mapping[str, Any], names: Names, read: Read
) -> tuple[int, int]:
    """Positions between which all events of the time asked for are, within those asked for.

    Times run along with the positions, but for clocks that were set: nearly all events between the
    two are wanted. Their index answers without a look at the events.
    """
    # OFFSET 0 keeps PostgreSQL from looking for the least position by walking through the log.
    [(low, high)] = read(
        "SELECT coalesce(min(position), 1), coalesce(max(position), 0) FROM"
        f" (SELECT position FROM {names.events} WHERE {' AND '.join(filters)} OFFSET 0) AS found",
        {name: value for name, value in values.items() if value is not None},
    )
    return max(query.after + 1, low), high if query.to is None else min(query.to, high)
