"""What the drivers think of the URLs that they are to get, before anything is opened."""

from __future__ import annotations

from collections.abc import Collection

_NOWHERE = "/nowhere"
"""A directory without the socket of any server."""


def postgresql_parameters() -> Collection[str]:
    """The names of the parameters that psycopg knows in a URL."""
    from psycopg import pq

    # libpq takes ssl=true in URLs alone, for sslmode=require.
    return [*(option.keyword.decode() for option in pq.Conninfo.get_defaults()), "ssl"]


def mongodb_parameters() -> Collection[str]:
    """The names of the parameters that pymongo knows, in lower case; it takes them in any case."""
    from pymongo.common import URI_OPTIONS_VALIDATOR_MAP

    return list(URI_OPTIONS_VALIDATOR_MAP)


def check_postgresql(url: str) -> None:
    """Raise ``ValueError`` where psycopg will not take a URL, with what is wrong."""
    from psycopg import Error, conninfo, pq

    defaults = {option.keyword.decode(): option.val for option in pq.Conninfo.get_defaults()}
    try:
        parts = conninfo.conninfo_to_dict(url)
    except (Error, UnicodeDecodeError):  # which quote parts of it
        raise ValueError("psycopg cannot read it") from None
    ports = str(parts.get("port") or "").split(",")
    if not all(not port or is_port(port) for port in ports):
        raise ValueError("its port must be a number from 1 to 65535")
    # libpq looks at the values no sooner than it connects.
    hosts = 1 + str(parts.get("hostaddr") or parts.get("host") or "").count(",")
    nowhere = conninfo.make_conninfo(url, host=",".join([_NOWHERE] * hosts), hostaddr="")
    if (parts.get("gssencmode") or (defaults.get("gssencmode") or b"").decode()) == "require":
        nowhere = conninfo.make_conninfo(nowhere, gssencmode="prefer")  # a socket has none
    attempt = pq.PGconn.connect_start(nowhere.encode())
    told = attempt.error_message.decode(errors="replace").strip()
    attempt.finish()
    if _NOWHERE not in told:
        raise ValueError(f"psycopg does not take it: {told}")


def check_mongodb(url: str) -> None:
    """Raise ``ValueError`` where pymongo will not take a URL, with what is wrong.

    Also for a write concern that is weaker than what the shop promises.
    """
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    try:
        options = parse_uri(url)["options"]
    except (PyMongoError, ValueError, TypeError, OSError) as error:  # which quote no value
        raise ValueError(f"pymongo does not take it: {error}") from None
    if options.get("w", "majority") != "majority" or not options.get("journal", True):
        raise ValueError("it may have no other w than majority, and no other journal than true")


def is_port(text: str) -> bool:
    """Whether a text is the number of a port, from 1 to 65535."""
    return text.isdecimal() and 1 <= int(text) <= 65535
