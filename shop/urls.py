"""The URLs that stores and buses are chosen by, checked before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

STORES = ("memory", "sqlite", "postgresql", "mongodb")
BUSES = ("memory",)
_FORMS = {
    "memory": "memory://",
    "sqlite": "sqlite:///PATH",
    "postgresql": "postgresql://USER@HOST/DATABASE",
    "mongodb": "mongodb://HOST/DATABASE",
}
_DATABASE_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,30}")


def redacted(text: str) -> str:
    """The text, with the passwords of all URLs in it blotted out.

    Rather too much than too little: a password that should have been percent-encoded may hold any
    character but a blank. A token for NATS stands alone in the place of the user.
    """
    text = re.sub(r"(://[^:/?#@\s]*:)\S*@", r"\1***@", text)
    text = re.sub(r"(\bnats\S*://)[^:/?#@\s]+@", r"\1***@", text)
    return re.sub(r"([?&]\w*(?:password|token)=)[^&\s'\"]*", r"\1***", text)


def checked_url(text: str, schemes: Sequence[str]) -> str:
    """The URL as it is, if it is of one of these kinds and has all that its kind needs.

    Raises ``ValueError`` with what is wrong with it. The URL itself is not quoted as long as it is
    of no kind known here: anything in it might be a password.
    """
    scheme, separator, rest = text.partition("://")
    if text != text.strip():
        raise ValueError("it has white space around it")
    if not separator or scheme not in schemes:
        known = ", ".join(_FORMS[scheme] for scheme in schemes)
        what = f"{scheme}://" if separator and scheme.isalpha() else "it"
        raise ValueError(f"{what} is no URL of a kind known here: {known}")
    if scheme == "memory" and rest:
        raise ValueError("it must be memory:// with nothing after it")
    if scheme == "sqlite":
        sqlite_path(text)
    if scheme in {"postgresql", "mongodb"}:
        DatabaseUrl.of(text)
    return text


def sqlite_path(url: str) -> Path:
    """The file of a ``sqlite:///PATH`` or ``sqlite:////ABSOLUTE``, taken literally: ``%`` too.

    A relative one is relative to the current directory. Raises ``ValueError`` for other URLs.
    """
    path = url.removeprefix("sqlite:///")
    if path.endswith(":memory:"):
        raise ValueError(f"{redacted(url)!r} is no file: a store in memory is memory://")
    if path == url or not path.strip("/"):
        raise ValueError(
            f"{redacted(url)!r} must be sqlite:///PATH, or sqlite:////PATH if absolute"
        )
    if path.endswith("/"):
        raise ValueError(f"{redacted(url)!r} is a directory: name a file in it")
    if not {"?", "#"}.isdisjoint(path):
        raise ValueError(
            f"{redacted(url)!r} may have no ? and no #: a path is all there is after sqlite:///"
        )
    return Path(path)


class DatabaseUrl(msgspec.Struct, frozen=True):
    """A URL of a database server, taken apart: what is for the driver, and what is for us.

    Ours are the parameters ``schema`` (PostgreSQL only), ``prefix``, ``pool_size`` and
    ``timeout``; the driver gets the rest, such as ``sslmode`` or ``replicaSet``.
    """

    driver: str
    """The URL without our parameters."""
    database: str
    schema: str = "shop"
    """The PostgreSQL schema that holds the tables."""
    prefix: str = ""
    """What the names of all tables, or collections, begin with."""
    pool_size: int = 16
    """The most connections that this process opens."""
    timeout: float = 5.0
    """Seconds to wait for a connection, or for a lock that somebody else holds."""

    @classmethod
    def of(cls, url: str) -> DatabaseUrl:
        """Take a URL apart. Raises ``ValueError`` with what is wrong, without quoting a value."""
        scheme, _, rest = url.partition("://")
        address, _, query = rest.partition("?")
        user, _, place = address.rpartition("@")
        if any(character.isspace() for character in url) or "/" in user:
            raise ValueError("special characters in it must be written as in %20, %2F and %40")
        database = unquote(place.partition("/")[2])
        if not database:
            raise ValueError(f"it names no database: {_FORMS[scheme]}")
        if not _DATABASE_NAME.fullmatch(database):
            raise ValueError("the name of its database has other characters than A-Z a-z 0-9 _ -")
        parsers = dict(_PARSERS)
        if scheme != "postgresql":
            del parsers["schema"]
        ours: dict[str, Any] = {}
        others = []
        for parameter in filter(None, query.split("&")):
            name, _, value = parameter.partition("=")
            if name not in parsers:
                others.append(parameter)
            elif name in ours:
                raise ValueError(f"it has the parameter {name} twice")
            else:
                ours[name] = parsers[name](name, unquote(value))
        driver = f"{scheme}://{address}" + ("?" + "&".join(others) if others else "")
        return cls(driver, database, **ours)


def _name(parameter: str, text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"its parameter {parameter} must be up to 31 lower-case letters, digits and _"
        )
    return text


def _size(parameter: str, text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 1000:
        raise ValueError(f"its parameter {parameter} must be a number from 2 to 1000")
    return int(text)


def _seconds(parameter: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise ValueError(f"its parameter {parameter} must be seconds, from 0.1 to 3600")
    return seconds


_PARSERS: Mapping[str, Callable[[str, str], Any]] = {
    "schema": _name,
    "prefix": _name,
    "pool_size": _size,
    "timeout": _seconds,
}
