"""JSON answers as lines of text: whoever drives the shop with ``curl`` gets a prompt of its own."""

from __future__ import annotations

import msgspec

_encode = msgspec.json.Encoder().encode


def json_line(value: object) -> bytes:
    """The value as JSON that ends with a line feed. Thread-safe."""
    return _encode(value) + b"\n"
