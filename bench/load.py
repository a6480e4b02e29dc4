"""A process that keeps a server busy: ``bench.load PORT PATH CONNECTIONS SECONDS``, body on stdin.

Each connection sends the same request again as soon as it has the answer. All are served by one
thread with as little work as can be: what is measured is the server. It prints the answers per
second, and fails at the first answer that is not 201.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
from time import perf_counter

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Connection:
    """One keep-alive connection with a request under way."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._received = b""
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what has come. When the answer is complete, send the next request: True then."""
        some = self.socket.recv(65_536)
        if not some:
            raise ConnectionError("the server hung up")
        self._received += some
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        length = _LENGTH.search(head + b"\r\n")
        if length is None:
            raise ValueError(f"the answer has no length: {head!r}")
        if len(body) < int(length[1]):
            return False
        if b" 201 " not in head[:16]:
            raise ValueError(f"not created: {self._received!r}")
        self._received = b""
        self.socket.sendall(self._request)
        return True


def post(port: int, path: str, body: bytes) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main(port: int, path: str, connections: int, seconds: float, body: bytes) -> None:
    """Send for so many seconds."""
    request = post(port, path, body)
    answers = 0
    with selectors.DefaultSelector() as selector:
        began = perf_counter()
        for _ in range(connections):
            connection = Connection(port, request)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        while perf_counter() - began < seconds:
            for key, _ in selector.select(timeout=1):
                answers += key.data.receive()
        elapsed = perf_counter() - began
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    print(answers / elapsed)


if __name__ == "__main__":
    port, path, connections, seconds = sys.argv[1:]
    main(int(port), path, int(connections), float(seconds), sys.stdin.buffer.read())
