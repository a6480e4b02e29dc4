"""PostgreSQL: events, read models, checkpoints and snapshots in one schema of a database.

Any number of threads, processes and machines may use one schema at once.
"""

from shop.backends.postgres.database import Database
from shop.backends.postgres.events import PostgresEventStore
from shop.backends.postgres.models import PostgresModelStore
from shop.backends.postgres.snapshots import PostgresSnapshotStore

__all__ = ["Database", "PostgresEventStore", "PostgresModelStore", "PostgresSnapshotStore"]
