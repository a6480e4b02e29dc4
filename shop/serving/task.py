"""A request that leaves its connection open where waitress would close it for no reason.

waitress 3.0 closes a connection after every answer without a length, also where there is no body.
A client that asks by ``ETag`` whether anything has changed had to connect again after each ``304``.
"""

from __future__ import annotations

from waitress.task import WSGITask


class Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    """A request to the application, and its answer."""

    def set_close_on_finish(self) -> None:
        """Have the connection closed after the answer, unless that ends with its headers."""
        wanted = self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.has_body or wanted or self.version != "1.1":
            super().set_close_on_finish()
