"""The numbers of the log: versions and positions, which every store can hold."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

GREATEST = 2**63 - 1
"""The greatest version and position: what SQLite, PostgreSQL and MongoDB hold as an integer."""

Ordinal = Annotated[int, Meta(ge=1, le=GREATEST)]
"""A version or position from outside."""
Count = Annotated[int, Meta(ge=0, le=GREATEST)]
"""A version or position from outside; 0 means none."""


def check_count(name: str, number: int) -> None:
    """Raise ``ValueError`` unless a number, called ``name``, is from 0 to :data:`GREATEST`."""
    if not 0 <= number <= GREATEST:
        raise ValueError(f"{name} must be between 0 and {GREATEST}, not {number}")
