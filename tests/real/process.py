"""A real server for tests, in a process and a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

import psutil
import pytest

PATIENCE = 30.0
"""Seconds after which a test gives up on a server."""


def unavailable(reason: str) -> NoReturn:
    """Skip the test that needs a server which cannot be had here; where CI is set, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class RealServer:
    """A server process that keeps its port and its data over ``stop``, ``kill`` and ``start``.

    ``ready`` raises as long as the server does not answer. Left at the end of the ``with`` block,
    it is killed and its data deleted.
    """

    def __init__(
        self,
        command: Callable[[int, Path], Sequence[str]],
        ready: Callable[[int], None],
        *,
        user: str | int | None = None,
    ) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="shop-test-"))
        if user is not None:
            shutil.chown(self.directory, user)
        self._command = command
        self._ready = ready
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(self.port, self.directory),
                stdout=log,
                stderr=log,
                cwd=self.directory,
                user=self._user,
                start_new_session=True,
                # Or the signal for a file that is too large would be deadly again.
                restore_signals=False,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it answers. Raises what it said last when it does not."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._ready(self.port)
            except Exception as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError(f"the server does not answer:\n{self.log}") from error
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it in an orderly way, and wait until it has ended."""
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it and its children with SIGKILL, wherever they are."""
        if self._process is not None and self._process.poll() is None:
            self._send(signal.SIGKILL)
            self._process.wait(PATIENCE)

    def pause(self) -> None:
        """Have it take connections and bytes, and answer nothing."""
        self._send(signal.SIGSTOP)
        # Its threads go on for a moment yet, long enough to answer.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def limit_files(self, size: int | None) -> None:
        """Let no file grow beyond so many bytes: to write there fails, as on a full disk.

        Of the processes that there are, and of their children to come; ``None`` ends it.
        """
        server = psutil.Process(self.process.pid)
        self._limit_files(server, size, check=True)  # first, so that no child escapes
        for child in server.children(recursive=True):
            self._limit_files(child, size, check=False)  # it may have ended

    def _limit_files(self, process: psutil.Process, size: int | None, *, check: bool) -> None:
        # By the server's own user: another may not, not even root everywhere.
        limit = f"--fsize={'unlimited' if size is None else size}:"
        command = ["prlimit", "--pid", str(process.pid), limit]
        subprocess.run(command, check=check, capture_output=True, user=self._user)

    def _send(self, signal: signal.Signals) -> None:
        """To the server and all its children, which may be in sessions of their own."""
        server = psutil.Process(self.process.pid)
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
