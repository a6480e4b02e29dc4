"""URLs of SQLite's files."""

from __future__ import annotations

from pathlib import Path

from shop.urls.redaction import redacted


def sqlite_path(url: str) -> Path:
    """The file of a ``sqlite:///PATH`` or ``sqlite:////ABSOLUTE``, taken literally: ``%`` too.

    A relative one is relative to the current directory. Raises ``ValueError`` for other URLs.
    """
    path = url.removeprefix("sqlite:///")
    if path.endswith(":memory:"):
        raise ValueError(f"{redacted(url)!r} is no file: a store in memory is memory://")
    if path == url or not path.strip("/"):
        raise ValueError(
            f"{redacted(url)!r} must be sqlite:///PATH, or sqlite:////PATH if absolute"
        )
    if path.endswith("/"):
        raise ValueError(f"{redacted(url)!r} is a directory: name a file in it")
    if not {"?", "#"}.isdisjoint(path):
        raise ValueError(
            f"{redacted(url)!r} may have no ? and no #: a path is all there is after sqlite:///"
        )
    return Path(path)
