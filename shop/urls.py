"""The URLs that stores and buses are chosen by, checked before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from shop.backends.nats_settings import Access, StreamConfig
from shop.drivers import (
    check_mongodb,
    check_postgresql,
    is_port,
    mongodb_parameters,
    postgresql_parameters,
)

STORES = ("memory", "sqlite", "postgresql", "mongodb")
BUSES = ("memory", "nats", "nats+jetstream")
_DATABASE_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,30}")
_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,255}")
_WORD = re.compile(r"[A-Za-z0-9_]+")
_SECRETS = "password|token|seed|secret|client_key|server_key"
_SERVER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def redacted(text: str) -> str:
    """The text, with the passwords of all URLs in it blotted out.

    Rather too much than too little: a password that should have been percent-encoded may hold any
    character but a blank. A token for NATS stands alone in the place of the user.
    """
    text = re.sub(r"(://[^:/?#@\s]*:)\S*@", r"\1***@", text)
    text = re.sub(r"(?i)(\bnats\S*://)[^:/?#@\s]+@", r"\1***@", text)
    text = re.sub(r"(?i)(session_token(?::|%3A))[^&,\s'\"]*", r"\1***", text)
    return re.sub(rf"(?i)([?&]\w*(?:{_SECRETS})=)[^&\s'\"]*", r"\1***", text)


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
    """Seconds to wait for a connection, or for a lock."""

    @classmethod
    def of(cls, url: str) -> DatabaseUrl:
        """Take a URL apart. Raises ``ValueError`` with what is wrong, without quoting a value."""
        scheme, _, rest = url.partition("://")
        address, _, query = rest.partition("?")
        user, _, place = address.rpartition("@")
        if any(character.isspace() for character in url) or not {"/", "@"}.isdisjoint(user):
            raise ValueError("special characters in it must be written as in %20, %2F and %40")
        if _BAD_ESCAPE.search(url):  # the driver would quote what is around it
            raise ValueError("it has a % or %00 that means nothing: write %25 for the character %")
        database = unquote(place.partition("/")[2])
        if not database:
            raise ValueError(f"it names no database: {_KINDS[scheme].form}")
        if not _DATABASE_NAME.fullmatch(database):
            raise ValueError("the name of its database has other characters than A-Z a-z 0-9 _ -")
        parsers = dict(_DATABASE_PARAMETERS)
        spelled: Callable[[str], str] = unquote
        if scheme == "postgresql":
            known, whose = postgresql_parameters(), ", and those of psycopg"
        else:
            del parsers["schema"]
            known, whose = mongodb_parameters(), ", and those of pymongo"
            spelled = str.lower
        ours, others = _parameters(query, parsers)
        for parameter in others:
            if spelled(parameter.partition("=")[0]) not in known:
                raise ValueError(_unknown(parameter, query, parsers, known, whose))
        driver = f"{scheme}://{address}" + ("?" + "&".join(others) if others else "")
        (check_postgresql if scheme == "postgresql" else check_mongodb)(driver)
        return cls(driver, database, **ours)


class NatsUrl(msgspec.Struct, frozen=True):
    """A URL of NATS servers, taken apart."""

    access: Access
    stream: StreamConfig | None = None
    """The stream that the log goes to, ``<prefix>_events`` by default, the dots as ``_``."""
    prefix: str = "shop"
    """What all subjects begin with."""
    timeout: float = 5.0
    """Seconds that a server may take to answer."""

    @classmethod
    def of(cls, url: str) -> NatsUrl:
        """Take a URL apart. Raises ``ValueError`` with what is wrong, without quoting a value."""
        scheme, _, rest = url.partition("://")
        address, _, query = rest.partition("?")
        credentials, at, place = address.rpartition("@")
        if any(character.isspace() for character in url) or "/" in credentials:
            raise ValueError("special characters in it must be written as in %20, %2F and %40")
        if "@" in credentials:
            raise ValueError("it must have user and password once, before the first server")
        servers = _servers(scheme, place)
        jetstream = scheme == "nats+jetstream"
        parsers = {**_ACCESS_PARAMETERS, **_NATS_PARAMETERS}
        if jetstream:
            parsers |= _STREAM_PARAMETERS
        values, others = _parameters(query, parsers)
        if others:
            raise ValueError(_unknown(others[0], query, parsers))
        access = _among(values, _ACCESS_PARAMETERS)
        if "tls_key" in access and "tls_cert" not in access:
            raise ValueError("its parameter tls_key needs tls_cert")
        if not {"tls_ca", "tls_cert"}.isdisjoint(access):
            access["tls"] = True
        if at:
            access |= _credentials(credentials)
            if "nkey_seed_file" in access:
                raise ValueError(
                    "it has an NKey and something before the @: one of the two will do"
                )
        stream = None
        if jetstream:
            default = values.get("prefix", "shop").replace(".", "_") + "_events"
            name = values.pop("stream", default)
            stream = StreamConfig(name=name, **_among(values, _STREAM_PARAMETERS))
        return cls(Access(servers=servers, **access), stream, **_among(values, _NATS_PARAMETERS))


def _servers(scheme: str, text: str) -> list[str]:
    """The servers of a URL, each as ``HOST:PORT``."""
    servers = text.removesuffix("/").split(",")
    if not all(_SERVER.fullmatch(server) for server in servers):
        raise ValueError(f"it must name servers, and nothing else: {_KINDS[scheme].form}")
    servers = [s if re.search(r":\d+$", s) else f"{s}:4222" for s in servers]
    if not all(is_port(server.rpartition(":")[2]) for server in servers):
        raise ValueError("its port must be a number from 1 to 65535")
    return servers


def _credentials(text: str) -> dict[str, str]:
    """User and password, or the token, that stand before the @."""
    first, colon, second = text.partition(":")
    if not first or (colon and not second):
        raise ValueError("it must have a user and a password, or a token, before the @")
    if colon:
        return {"user": unquote(first), "password": unquote(second)}
    return {"token": unquote(first)}


def _among(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The values that have one of these names."""
    return {name: values[name] for name in names if name in values}


_Parsers = Mapping[str, Callable[[str, str], Any]]


def _parameters(query: str, parsers: _Parsers) -> tuple[dict[str, Any], list[str]]:
    """The values of known parameters by name, and the other parameters as they are."""
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
    return ours, others


def _unknown(
    parameter: str, query: str, ours: Iterable[str], drivers: Iterable[str] = (), rest: str = ""
) -> str:
    """What is wrong with the first parameter that is not known.

    It is named only where it can be no piece of a password that should have been percent-encoded:
    one that stands before an @, or is itself a parameter.
    """
    known = f"known: {', '.join(ours)}{rest}"
    name = parameter.partition("=")[0]
    before = f"&{query}&".partition(f"&{parameter}&")[0]
    if "@" in query or re.search(_SECRETS, before, re.IGNORECASE) or not _WORD.fullmatch(name):
        return f"it has an unknown parameter; {known}"
    near = get_close_matches(name.lower(), [*ours, *drivers], n=1)
    hint = f": is it meant to be {near[0]}?" if near else f"; {known}"
    return f"it has an unknown parameter {name}{hint}"


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str, str], str]:
    def parse(parameter: str, text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"its parameter {parameter} must be {what}")
        return text

    return parse


def _switch(parameter: str, text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError(f"its parameter {parameter} must be on or off")
    return text == "on"


def _path(parameter: str, text: str) -> Path:
    if not text:
        raise ValueError(f"its parameter {parameter} must be the path of a file")
    return Path(text)


def _number(minimum: int, maximum: int) -> Callable[[str, str], int]:
    def parse(parameter: str, text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise ValueError(
                f"its parameter {parameter} must be a number from {minimum} to {maximum}"
            )
        return int(text)

    return parse


def _duration(maximum: float) -> Callable[[str, str], float]:
    def parse(parameter: str, text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0.1 <= seconds <= maximum:
            raise ValueError(
                f"its parameter {parameter} must be seconds, from 0.1 to {maximum:.0f}"
            )
        return seconds

    return parse


_DATABASE_PARAMETERS: _Parsers = {
    "schema": _matching(_NAME, "up to 31 lower-case letters, digits and _"),
    "prefix": _matching(_NAME, "up to 31 lower-case letters, digits and _"),
    "pool_size": _number(2, 1000),
    "timeout": _duration(3600),
}
_ACCESS_PARAMETERS: _Parsers = {
    "nkey_seed_file": _path,
    "tls": _switch,
    "tls_ca": _path,
    "tls_cert": _path,
    "tls_key": _path,
}
_NATS_PARAMETERS: _Parsers = {
    "prefix": _matching(_SUBJECT, "words of letters, digits, _ and -, joined by dots"),
    "timeout": _duration(3600),
}
_STREAM_PARAMETERS: _Parsers = {
    "stream": _matching(_STREAM, "letters, digits, _ and -"),
    "storage": _matching(re.compile("file|memory"), "file or memory"),
    "replicas": _number(1, 5),
    "max_age": _duration(10 * 365 * 86400),
    "max_bytes": _number(1, 2**63 - 1),
}


class _Kind(NamedTuple):
    """The URLs of a scheme: what they look like, and what raises ``ValueError`` for others."""

    form: str
    check: Callable[[str], object]


_KINDS: Mapping[str, _Kind] = {
    "memory": _Kind("memory://", _check_memory),
    "sqlite": _Kind("sqlite:///PATH", sqlite_path),
    "postgresql": _Kind("postgresql://USER@HOST/DATABASE", DatabaseUrl.of),
    "mongodb": _Kind("mongodb://HOST/DATABASE", DatabaseUrl.of),
    "nats": _Kind("nats://HOST:4222", NatsUrl.of),
    "nats+jetstream": _Kind("nats+jetstream://HOST:4222", NatsUrl.of),
}
