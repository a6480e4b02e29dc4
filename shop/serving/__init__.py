"""Serving HTTP by waitress, from the start of the process to its clean stop."""

from shop.serving.server import serve, start_app

__all__ = ["serve", "start_app"]
