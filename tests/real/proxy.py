"""A proxy that cuts connections at a chosen moment, or has the server say what it did not."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from typing import Literal, Self

Moment = Literal["before", "after"]


class CuttingProxy:
    """Passes bytes to a server on this machine and back.

    ``cut`` has the next requests that ``marker`` is found in cut off: either they do not reach the
    server any more, or it carries them out and its answer is lost. ``insert`` adds to an answer.
    """

    def __init__(self, port: int, marker: re.Pattern[bytes] = re.compile(rb"(?!)")) -> None:
        self._server_port = port
        self._marker = marker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._moments: list[Moment] = []
        self._insertion = (b"", b"")
        self._sockets: set[socket.socket] = set()
        self.cuts = 0

    def insert(self, what: bytes, *, before: bytes) -> None:
        """Have the next answer that holds ``before`` hold ``what`` in front of it."""
        with self._lock:
            self._insertion = (what, before)

    def cut(self, *moments: Moment) -> None:
        """Cut off the next requests, each at its moment."""
        with self._lock:
            self._moments += moments

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._sockets):
            _end(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    client.close()
                    continue
                self._sockets |= {client, server}
                losing = threading.Event()
                for work in (
                    lambda c=client, s=server, e=losing: self._requests(c, s, e),
                    lambda c=client, s=server, e=losing: self._answers(c, s, e),
                ):
                    threading.Thread(target=work, name="proxy", daemon=True).start()

    def _requests(
        self, client: socket.socket, server: socket.socket, losing: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                moment = self._moment_of(data)
                if moment == "before":
                    break
                if moment == "after":
                    losing.set()
                server.sendall(data)
        _end(client)
        _end(server)

    def _answers(
        self, client: socket.socket, server: socket.socket, losing: threading.Event
    ) -> None:
        with suppress(OSError):
            while (data := server.recv(1 << 20)) and not losing.is_set():
                client.sendall(self._with_insertion(data))
        _end(client)
        _end(server)

    def _with_insertion(self, answer: bytes) -> bytes:
        with self._lock:
            what, before = self._insertion
            if not before or before not in answer:
                return answer
            self._insertion = (b"", b"")
            return answer.replace(before, what + before, 1)

    def _moment_of(self, request: bytes) -> Moment | None:
        if not self._marker.search(request):
            return None
        with self._lock:
            if not self._moments:
                return None
            self.cuts += 1
            return self._moments.pop(0)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
