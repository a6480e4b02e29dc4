"""The URLs that stores and buses are chosen by, checked before anything is opened."""

from shop.urls.database import DatabaseUrl
from shop.urls.kinds import BUSES, STORES, checked_url
from shop.urls.nats import NatsUrl
from shop.urls.redaction import redacted
from shop.urls.sqlite import sqlite_path

__all__ = [
    "BUSES",
    "STORES",
    "DatabaseUrl",
    "NatsUrl",
    "checked_url",
    "redacted",
    "sqlite_path",
]
