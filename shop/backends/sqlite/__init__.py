"""SQLite: events, read models, checkpoints and snapshots in one file. The embedded default.

Any number of threads and processes on one machine may use one file at once.
"""

from shop.backends.sqlite.database import Database
from shop.backends.sqlite.events import SqliteEventStore
from shop.backends.sqlite.models import SqliteModelStore
from shop.backends.sqlite.snapshots import SqliteSnapshotStore

__all__ = ["Database", "SqliteEventStore", "SqliteModelStore", "SqliteSnapshotStore"]
