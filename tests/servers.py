"""Server processes, as users start them, for tests of how they run and stop."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.waiting import await_true

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PATIENCE = 20.0
"""Seconds after which a test gives up on a process."""


def by_waitress(listen: str, app: str = "wsgi:app", *options: str) -> list[str]:
    return [str(BIN / "waitress-serve"), f"--listen={listen}", *options, app]


def by_make(listen: str) -> list[str]:
    installed = BIN.parent / "installed"  # the environment is as it should be: the tests run in it
    make = ["make", "-C", str(ROOT), "run", f"VENV={BIN.parent}", f"LISTEN={listen}"]
    return [*make, "-o", str(installed)]


def by_module(listen: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "shop", "serve", "--listen", listen, *options]


WAYS: Mapping[str, Callable[[str], list[str]]] = {
    "waitress-serve": by_waitress,
    "make run": by_make,
    "python -m shop serve": by_module,
}
"""The ways to serve the shop; each makes the command line for an address."""


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def environment(**variables: str) -> dict[str, str]:
    """That of the tests, with these variables, and without settings from outside."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOP_")}
    return {**inherited, "PYTHONPATH": str(ROOT), **variables}


def run(*command: str | Path, directory: Path, **variables: str) -> str:
    """What a command prints that must succeed."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class ServerProcess:
    """A server in a process group of its own, which is killed with it at the latest."""

    def __init__(
        self, command: Sequence[str], port: int, directory: Path, **variables: str
    ) -> None:
        self.port = port
        self._log = directory / f"{port}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment(**variables),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def log(self) -> str:
        """What the server has written to stdout and stderr."""
        return self._log.read_text()

    def await_ready(self) -> Self:
        await_true(lambda: not self.refuses() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
        return self

    def refuses(self) -> bool:
        """Whether nobody listens on the port."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """One request on a connection of its own; ``body`` is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            return ask(connection, method, path, body, **headers)
        finally:
            connection.close()

    def signal(self, number: signal.Signals) -> None:
        """Signal the process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def await_exit(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(PATIENCE)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object = None,
    **headers: str,
) -> Reply:
    """One request and its answer; underscores in names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None
    if body is not None:
        data = json.dumps(body)
        named["Content-Type"] = "application/json"
    connection.request(method, path, data, named)
    return reply(connection.getresponse())


def receive(connection: socket.socket) -> Reply:
    """Read the answer to a request that was sent by hand."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return reply(response)


def reply(response: http.client.HTTPResponse) -> Reply:
    return Reply(response.status, dict(response.getheaders()), response.read())
