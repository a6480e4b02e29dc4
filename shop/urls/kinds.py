"""The kinds of URLs there are, and the check of any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from shop.urls import database, nats
from shop.urls.database import DatabaseUrl
from shop.urls.nats import NatsUrl
from shop.urls.sqlite import sqlite_path

STORES = ("memory", "sqlite", "postgresql", "mongodb")
BUSES = ("memory", "nats", "nats+jetstream")


def checked_url(text: str, schemes: Sequence[str]) -> str:
    """The URL as it is, if it is of one of these kinds and has all that its kind needs.

    Raises ``ValueError`` with what is wrong with it. The URL itself is not quoted as long as it is
    of no kind known here: anything in it might be a password.
    """
    scheme, separator, _ = text.partition("://")
    if text != text.strip():
        raise ValueError("it has white space around it")
    if not separator or scheme not in schemes:
        known = ", ".join(_KINDS[scheme].form for scheme in schemes)
        what = f"{scheme}://" if separator and scheme.isalpha() else "it"
        raise ValueError(f"{what} is no URL of a kind known here: {known}")
    _KINDS[scheme].check(text)
    return text


def _check_memory(url: str) -> None:
    if url != "memory://":
        raise ValueError("it must be memory:// with nothing after it")


class _Kind(NamedTuple):
    """The URLs of a scheme: what they look like, and what raises ``ValueError`` for others."""

    form: str
    check: Callable[[str], object]


_KINDS: Mapping[str, _Kind] = {
    "memory": _Kind("memory://", _check_memory),
    "sqlite": _Kind("sqlite:///PATH", sqlite_path),
    **{scheme: _Kind(form, DatabaseUrl.of) for scheme, form in database.FORMS.items()},
    **{scheme: _Kind(form, NatsUrl.of) for scheme, form in nats.FORMS.items()},
}
