"""Listings: answers that are given page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from flask import request
from msgspec import UNSET

from shop.application import PageQuery
from shop.eventsourcing import Filter, ModelReader
from shop.eventsourcing.models.model import IndexValue, M
from shop.web.cursors import Key, decode_cursor, encode_cursor

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a listing. ``next`` is the cursor that continues it, null at its end."""

    items: list[T]
    next: str | None


class Listing:
    """One listing, as the present request asks for a page of it.

    A listing is the path of the request with all that restricts its items.
    """

    def __init__(self, query: PageQuery) -> None:
        fields = {
            name: str(getattr(query, name))
            for name in query.__struct_fields__
            if name not in {"cursor", "limit"}
        }
        self._name = f"{request.path}?{urlencode(fields)}"
        self._limit: int = query.limit
        self.after = decode_cursor(self._name, query.cursor)

    @property
    def fetch(self) -> int:
        """How many items to get: one more than are shown, which tells whether there are more."""
        return self._limit + 1

    def models(
        self,
        reader: ModelReader,
        cls: type[M],
        *,
        equal: Mapping[str, IndexValue] = {},
        reverse: bool = False,
    ) -> tuple[int, list[M], str | None]:
        """The position read at, the models to show, and the cursor that continues the listing.

        They are those whose indexed fields equal the values given, oldest first unless reversed.
        """
        filter = Filter(equal=equal, after=self.after, limit=self.fetch, reverse=reverse)
        found = reader.find(cls, filter)
        shown, next = self.page(found.value, lambda keyed: keyed.key)
        return found.position, [keyed.model for keyed in shown], next

    def page(self, items: Sequence[T], key: Callable[[T], Key]) -> tuple[Sequence[T], str | None]:
        """The items to show, and the cursor that continues the listing."""
        if len(items) <= self._limit:
            return items, None
        shown = items[: self._limit]
        return shown, encode_cursor(self._name, key(shown[-1]))


def given(**values: Any) -> dict[str, Any]:
    """Those of the values that were given."""
    return {name: value for name, value in values.items() if value is not UNSET}
