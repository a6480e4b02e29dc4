"""JSON answers as lines of text, so that after ``curl`` the prompt stands on its own line."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from flask import Response

_encode = msgspec.json.Encoder().encode


def json_line(value: object) -> bytes:
    """The value as JSON that ends with a line feed. Thread-safe."""
    return _encode(value) + b"\n"


def json_response(
    value: object,
    status: int,
    headers: Mapping[str, str],
    content_type: str = "application/json",
) -> Response:
    """The value as an answer of one :func:`json_line`."""
    return Response(json_line(value), status, headers, content_type=content_type)
