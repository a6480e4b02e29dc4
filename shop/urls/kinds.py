"""The kinds of URLs there are, and the check of any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from shop.urls import database, nats
from shop.urls.sqlite import sqlite_path

STORES = ("memory", "sqlite", "postgresql", "mongodb")
"""The schemes of the URLs of stores."""
BUSES = ("memory", "nats", "nats+jetstream")
"""The schemes of the URLs of buses."""


def checked_url(text: str, schemes: Sequence[str]) -> str:
    """The URL as it is, if it has one of the schemes and all that this kind of URL needs.

    Raises ``ValueError`` with what is wrong with it. A URL of no kind known here is not quoted:
    anything in it might be a password.
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
    **{scheme: _Kind(form, database.DatabaseUrl.of) for scheme, form in database.FORMS.items()},
    **{scheme: _Kind(form, nats.NatsUrl.of) for scheme, form in nats.FORMS.items()},
}
