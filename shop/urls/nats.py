"""URLs of NATS servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from shop.backends.nats_settings import Access, StreamConfig
from shop.urls.drivers import is_port
from shop.urls.parameters import (
    Parsers,
    file_path,
    matching,
    on_or_off,
    seconds,
    take_parameters,
    unknown_parameter,
    whole_number,
)

_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,255}")
_SERVER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

FORMS: Mapping[str, str] = {
    "nats": "nats://HOST:4222",
    "nats+jetstream": "nats+jetstream://HOST:4222",
}
"""What a URL looks like, by scheme."""


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
        values, others = take_parameters(query, parsers)
        if others:
            raise ValueError(unknown_parameter(others[0], query, parsers))
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
        raise ValueError(f"it must name servers, and nothing else: {FORMS[scheme]}")
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


_ACCESS_PARAMETERS: Parsers = {
    "nkey_seed_file": file_path,
    "tls": on_or_off,
    "tls_ca": file_path,
    "tls_cert": file_path,
    "tls_key": file_path,
}
_NATS_PARAMETERS: Parsers = {
    "prefix": matching(_SUBJECT, "words of letters, digits, _ and -, joined by dots"),
    "timeout": seconds(3600),
}
_STREAM_PARAMETERS: Parsers = {
    "stream": matching(_STREAM, "letters, digits, _ and -"),
    "storage": matching(re.compile("file|memory"), "file or memory"),
    "replicas": whole_number(1, 5),
    "max_age": seconds(10 * 365 * 86400),
    "max_bytes": whole_number(1, 2**63 - 1),
}
