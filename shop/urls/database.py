"""URLs of database servers: PostgreSQL and MongoDB."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import msgspec

from shop.urls.drivers import (
    check_mongodb,
    check_postgresql,
    mongodb_parameters,
    postgresql_parameters,
)
from shop.urls.parameters import (
    Parsers,
    matching,
    seconds,
    take_parameters,
    unknown_parameter,
    whole_number,
)

_DATABASE_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,30}")

FORMS: Mapping[str, str] = {
    "postgresql": "postgresql://USER@HOST/DATABASE",
    "mongodb": "mongodb://HOST/DATABASE",
}
"""What a URL looks like, by scheme."""


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
            raise ValueError(f"it names no database: {FORMS[scheme]}")
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
        ours, others = take_parameters(query, parsers)
        for parameter in others:
            if spelled(parameter.partition("=")[0]) not in known:
                raise ValueError(unknown_parameter(parameter, query, parsers, known, whose))
        driver = f"{scheme}://{address}" + ("?" + "&".join(others) if others else "")
        (check_postgresql if scheme == "postgresql" else check_mongodb)(driver)
        return cls(driver, database, **ours)


_DATABASE_PARAMETERS: Parsers = {
    "schema": matching(_NAME, "up to 31 lower-case letters, digits and _"),
    "prefix": matching(_NAME, "up to 31 lower-case letters, digits and _"),
    "pool_size": whole_number(2, 1000),
    "timeout": seconds(3600),
}
