"""MongoDB: events, read models, checkpoints and snapshots in one database.

On a standalone server as well as on a replica set. Any number of threads, processes and machines
may use one database at once.
"""

from shop.backends.mongodb.database import Database
from shop.backends.mongodb.events import MongoEventStore
from shop.backends.mongodb.models import MongoModelStore
from shop.backends.mongodb.snapshots import MongoSnapshotStore

__all__ = ["Database", "MongoEventStore", "MongoModelStore", "MongoSnapshotStore"]
