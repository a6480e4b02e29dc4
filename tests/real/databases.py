"""The database servers that a shop can keep its data on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.real.mongodb import MongoServer
from tests.real.postgres import PostgresServer

DatabaseServer = PostgresServer | MongoServer

DATABASE_SERVERS: Mapping[str, Callable[[], DatabaseServer]] = {
    "postgres": PostgresServer,
    "mongodb": lambda: MongoServer(replica_set=False),
    "mongodb_replica_set": lambda: MongoServer(replica_set=True),
}
"""Makes one that is not started yet."""
