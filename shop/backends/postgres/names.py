"""What the tables of a store are called."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

_LONGEST = 63
"""Bytes of a name; PostgreSQL cuts off the rest."""


class Names(msgspec.Struct, frozen=True):
    """The names of one store. ``schema`` and ``prefix`` are lower-case letters, digits and _."""

    schema: str
    prefix: str

    @property
    def quoted_schema(self) -> str:
        """The schema as SQL takes it: its name may be a keyword."""
        return f'"{self.schema}"'

    @property
    def lock(self) -> int:
        """The key of the advisory lock that keeps the order of events."""
        return _key(f"{self.schema}.{self.prefix}")

    @property
    def definitions_lock(self) -> int:
        """The key of the advisory lock under which tables of read models are defined."""
        return _key(f"{self.schema}.{self.prefix}model_")

    @property
    def store(self) -> str:
        """The table that says what store this is."""
        return self.table("store")

    @property
    def events(self) -> str:
        """The table of events."""
        return self.table("events")

    @property
    def head(self) -> str:
        """The query for the last position, 0 in an empty log."""
        return f"SELECT coalesce(max(position), 0) FROM {self.events}"

    def table(self, name: str) -> str:
        """A table or function of this program."""
        return f"{self.quoted_schema}.{self.prefix}{name}"

    def models(self, collection: str) -> str:
        """The table of a collection of read models."""
        return self.table(self.part(f"model_{collection}"))

    def part(self, name: str) -> str:
        """A name that is not too long with the prefix; the end of a long one becomes a hash."""
        if len(self.prefix) + len(name) <= _LONGEST:
            return name
        hashed = blake2b(name.encode(), digest_size=4).hexdigest()
        return f"{name[: _LONGEST - len(self.prefix) - 9]}_{hashed}"


def _key(name: str) -> int:
    """The key of an advisory lock: PostgreSQL has numbers for names."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)
