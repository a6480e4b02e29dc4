"""Cursors: where a listing goes on. Opaque to clients, and good for their own listing only.

A cursor names the last item that was seen, by a key that never changes, and so survives whatever
is written meanwhile.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b

import msgspec

from shop.eventsourcing.events.ordinal import GREATEST
from shop.web.errors import FieldError, Problem

Key = tuple[int, str]


class _Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    listing: bytes
    key: Key


def encode_cursor(listing: str, key: Key) -> str:
    """The cursor that continues a listing after a key."""
    raw = msgspec.msgpack.encode(_Cursor(_digest(listing), key))
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_cursor(listing: str, text: str) -> Key | None:
    """The key after which to go on; ``None`` without a cursor. Raises :class:`Problem`."""
    if not text:
        return None
    try:
        cursor = msgspec.msgpack.decode(
            urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Cursor
        )
    except ValueError:
        cursor = None
    if (
        cursor is None
        or cursor.listing != _digest(listing)
        or not 0 <= cursor.key[0] <= GREATEST
        or "\x00" in cursor.key[1]
    ):
        wrong = FieldError("This is no cursor of this listing", parameter="cursor")
        raise Problem(400, "query-invalid", "the cursor is of no use here", errors=[wrong])
    return cursor.key


def _digest(listing: str) -> bytes:
    return blake2b(listing.encode(), digest_size=6).digest()
