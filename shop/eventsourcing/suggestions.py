"""What may have been meant by a name that nothing has."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def near_or_known(name: str, known: Iterable[str]) -> str:
    """The names that are near, or else all that there are: for the end of an error's text."""
    known = list(known)
    near = get_close_matches(name, known)
    return f"near: {', '.join(near)}" if near else f"known: {', '.join(known) or 'none'}"
