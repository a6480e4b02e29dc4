"""Servers as users start them: ``waitress-serve`` in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.process import free_port
from tests.servers import ServerProcess, by_waitress

THREADS = 8


@contextmanager
def serving(app: str, directory: Path, **variables: str) -> Iterator[int]:
    """Serve an application; gives the port once the server listens."""
    port = free_port()
    command = by_waitress(f"127.0.0.1:{port}", app, f"--threads={THREADS}")
    with ServerProcess(command, port, directory, **variables) as server:
        server.await_ready()
        yield port
        server.signal(signal.SIGTERM)
        server.await_exit()
