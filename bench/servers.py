"""Servers as users start them: ``waitress-serve`` in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from time import monotonic

THREADS = 8
_START = 20.0
_STOP = 15.0


@contextmanager
def serving(app: str, log: Path, environ: Mapping[str, str] | None = None) -> Iterator[int]:
    """Serve an application; gives the port once the server listens."""
    port = _free_port()
    command = [
        str(Path(sys.executable).with_name("waitress-serve")),
        f"--listen=127.0.0.1:{port}",
        f"--threads={THREADS}",
        app,
    ]
    own = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env={**own, **(environ or {})}, stderr=output) as server,
    ):
        try:
            _await(port, server, log)
            yield port
        finally:
            server.terminate()
            try:
                server.wait(_STOP)
            except subprocess.TimeoutExpired:
                server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = monotonic() + _START
    while server.poll() is None and monotonic() < until:
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=1)
            connection.connect()
        except OSError:
            Event().wait(0.05)
        else:
            connection.close()
            return
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}")
