"""What request headers ask for.

They are taken from the WSGI environment: each look through Flask's proxy costs a microsecond.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from werkzeug.http import parse_list_header, unquote_header_value

from shop.web.errors import Problem

Environ = Mapping[str, Any]
_SECONDS = re.compile(r"\d+(\.\d+)?")
_NUMBER = re.compile(r"\d{1,18}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def parse_uuid(text: str) -> UUID | None:
    """The UUID that is written in the usual way, ``None`` for any other text."""
    return UUID(text) if _UUID.fullmatch(text) else None


def idempotency_key(environ: Environ) -> UUID | None:
    """The id that the client gives its command, if any."""
    text = environ.get("HTTP_IDEMPOTENCY_KEY")
    if text is None:
        return None
    key = parse_uuid(text)
    if key is None:
        raise Problem(400, "header-invalid", f"Idempotency-Key must be a UUID, not {text!r}")
    return key


def expected_version(environ: Environ, *, creates: bool) -> int | None:
    """The version that the client last saw of the aggregate, if it says so.

    ``*`` asks that the aggregate exists, as all commands do that do not create it.
    """
    if "HTTP_IF_NONE_MATCH" in environ:
        raise Problem(
            400,
            "header-invalid",
            "a command takes no If-None-Match: it is If-Match, with the version of the aggregate,"
            " that has it refused when somebody else was faster",
        )
    text = environ.get("HTTP_IF_MATCH")
    if text is None or (text == "*" and not creates):
        return None
    if text[:1] == text[-1:] == '"' and _NUMBER.fullmatch(text[1:-1]):
        return int(text[1:-1])
    raise Problem(
        400,
        "header-invalid",
        f'If-Match must be the version of the aggregate in quotes, such as "1", not {text!r}: it is'
        " the ETag of a command's answer, or of GET /streams/<aggregate>/<id>",
    )


def min_position(environ: Environ) -> int:
    """The position that the answer to a read must have reached; 0 without the header."""
    text = environ.get("HTTP_SHOP_MIN_POSITION", "0")
    if not _NUMBER.fullmatch(text):
        detail = f"Shop-Min-Position must be a number of at most 18 digits, not {text!r}"
        raise Problem(400, "header-invalid", detail)
    return int(text)


def preferred_wait(environ: Environ) -> float | None:
    """How many seconds the client would wait (``Prefer``, RFC 7240), if it says so.

    Of several the first counts. What is unknown or malformed is passed over: it is a preference.
    """
    for preference in parse_list_header(environ.get("HTTP_PREFER", "")):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = unquote_header_value(value.strip())
            return float(seconds) if _SECONDS.fullmatch(seconds) else None
    return None
