"""Which clients are served: those on this machine, not through web pages or proxies."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from flask import request

from shop.web.errors import Problem

_LOCAL_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


def check_loopback() -> None:
    """Raise :class:`Problem` unless the client is on this machine and addresses it as such.

    The name by which a client addresses the server matters as well. A web page can have its own
    name resolve to 127.0.0.1 (DNS rebinding) and would then be let in by the visitor's browser;
    and behind a proxy every client comes from this machine.
    """
    environ = request.environ
    client = environ.get("REMOTE_ADDR", "")
    if not _is_loopback(client):
        raise Problem(403, "client-not-local", "only clients on the shop's own machine are served")
    host = environ.get("HTTP_HOST", "")
    if not _LOCAL_HOST.fullmatch(host):
        raise Problem(
            403,
            "host-not-local",
            "the Host header must be localhost, 127.x.x.x or [::1]: the shop serves its own machine"
            " only, not through other names, which keeps out web pages (DNS rebinding) and proxies",
        )


@lru_cache(maxsize=64)
def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
