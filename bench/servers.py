"""Servers as users start them: ``waitress-serve`` in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.process import free_port
from tests.servers import ServerProcess, by_waitress

THREADS = 8


@contextmanager
def serving(
    app: str, directory: Path, *, one_core: bool = False, **variables: str
) -> Iterator[int]:
    """Serve an application; gives the port once the server listens.

    ``one_core`` is for those that do not keep to one core themselves, as the shop does.
    """
    port = free_port()
    command = by_waitress(f"127.0.0.1:{port}", app, f"--threads={THREADS}")
    if one_core:
        command = ["taskset", "--cpu-list", str(max(os.sched_getaffinity(0))), *command]
    with ServerProcess(command, port, directory, **variables) as server:
        server.await_ready()
        yield port
        server.signal(signal.SIGTERM)
        server.await_exit()
