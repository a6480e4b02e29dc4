"""Reading the log page by page, each page through the index that leads to it.

A page is some commits in the order of their positions. Which of their events are wanted is decided
here, event by event, before its payload is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from shop.backends.mongodb.documents import Document
from shop.backends.mongodb.schema import BY_AGGREGATE, BY_ID, BY_NAME, BY_POSITION, BY_TIME
from shop.eventsourcing.events.ordinal import GREATEST
from shop.eventsourcing.events.times import microseconds
from shop.eventsourcing.stores.store import Query

PAGE = 1000
"""Commits per page, at most."""
FIRST_PAGE = 50
"""Commits of the first page: nobody knows yet how long they are."""
_WISHED = 1 * 1024 * 1024
"""Bytes of a page that is neither too small to be quick nor too big for memory."""


class Plan(msgspec.Struct, frozen=True):
    """How a query is carried out. ``low`` and ``high`` bound the positions wanted."""

    conditions: Document
    """What some event of a commit fulfils, as ``$elemMatch`` takes it. Others may be among them."""
    index: str
    low: int
    high: int
    reverse: bool
    limit: int | None
    wanted: Callable[[Document], bool]
    """Whether an event's document is what the query asks for, positions aside."""

    def find(self, low: int, high: int) -> Document:
        """The filter for commits whose first position lies between these."""
        found: Document = {"_id": {"$gte": low, "$lte": high}}
        if self.conditions:
            found["events"] = {"$elemMatch": self.conditions}
        return found


def next_size(commits: int, size: int) -> int:
    """How many commits the next page is to have, after one of so many that took ``size`` bytes."""
    return max(1, min(PAGE, commits * _WISHED // max(size, 1)))


def plan(query: Query, known_aggregates: Sequence[str], known_names: Sequence[str]) -> Plan | None:
    """How to carry out a query, ``None`` where nothing can match.

    ``known_aggregates`` and ``known_names`` are looked at where :func:`needs_kinds` says so.
    """
    chosen = {
        "ids": query.ids,
        "refs": query.refs,
        "aggregate_ids": query.aggregate_ids,
        "names": query.names,
        "aggregates": query.aggregates,
    }
    low, high = query.after + 1, GREATEST if query.to is None else query.to
    if (
        query.limit == 0
        or low > high
        or any(values is not None and not values for values in chosen.values())
    ):
        return None
    conditions: Document = {}
    index = BY_POSITION
    if query.ids is not None:
        index = BY_ID
        conditions["id"] = _one_of({str(id) for id in query.ids})
    if query.refs is not None:
        index = BY_AGGREGATE if index == BY_POSITION else index
        conditions["aggregate_id"] = _one_of({str(ref.id) for ref in query.refs})
        conditions["aggregate"] = _one_of({ref.name for ref in query.refs})
    elif query.aggregate_ids is not None:
        index = BY_AGGREGATE if index == BY_POSITION else index
        conditions["aggregate_id"] = _one_of({str(id) for id in query.aggregate_ids})
        if query.aggregates is not None:
            conditions["aggregate"] = _one_of(query.aggregates)
        elif index == BY_AGGREGATE:
            conditions["aggregate"] = _one_of(known_aggregates)
    elif query.aggregates is not None:
        conditions["aggregate"] = _one_of(query.aggregates)
    if query.names is not None or (query.aggregates is not None and index == BY_POSITION):
        names = known_names if query.names is None else query.names
        index = BY_NAME if index == BY_POSITION else index
        conditions["name"] = _one_of(names)
    versions = _within(*query.versions)
    if versions:
        conditions["version"] = versions
    times = _within(
        None if query.since is None else microseconds(query.since),
        None if query.until is None else microseconds(query.until),
    )
    if times:
        conditions["time"] = times
        index = BY_TIME if index == BY_POSITION else index
    if any(condition == {"$in": []} for condition in conditions.values()):
        return None
    return Plan(
        conditions=conditions,
        index=index,
        low=low,
        high=high,
        reverse=query.reverse,
        limit=query.limit,
        wanted=_filter(query),
    )


def needs_kinds(query: Query) -> bool:
    """Whether the kinds of events in the log lead to the events of a query."""
    if query.ids is not None or query.refs is not None:
        return False
    if query.aggregate_ids is not None:
        return query.aggregates is None
    return query.aggregates is not None and query.names is None


def _one_of(values: Any) -> Any:
    [*some] = sorted(set(values))
    return some[0] if len(some) == 1 else {"$in": some}


def _within(low: int | None, high: int | None) -> Document:
    bounds: Document = {}
    if low is not None:
        bounds["$gte"] = low
    if high is not None:
        bounds["$lte"] = high
    return bounds


def _filter(query: Query) -> Callable[[Document], bool]:
    """As :meth:`Query.matches`, but for documents and without positions."""
    sets: Mapping[str, set[str]] = {
        field: {str(value) for value in values}
        for field, values in (
            ("id", query.ids),
            ("name", query.names),
            ("aggregate", query.aggregates),
            ("aggregate_id", query.aggregate_ids),
        )
        if values is not None
    }
    ranges = [
        (field, -GREATEST if low is None else low, GREATEST if high is None else high)
        for field, low, high in (
            ("version", *query.versions),
            (
                "time",
                None if query.since is None else microseconds(query.since),
                None if query.until is None else microseconds(query.until),
            ),
        )
        if low is not None or high is not None
    ]
    refs = None if query.refs is None else {(ref.name, str(ref.id)) for ref in query.refs}
    if not sets and not ranges and refs is None:
        return lambda row: True

    def wanted(row: Document) -> bool:
        return (
            all(row[field] in values for field, values in sets.items())
            and all(low <= row[field] <= high for field, low, high in ranges)
            and (refs is None or (row["aggregate"], row["aggregate_id"]) in refs)
        )

    return wanted
