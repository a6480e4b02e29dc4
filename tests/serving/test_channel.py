"""What a thread sends: real sockets and waitress's own loop, with a client that may read slowly."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import waitress
from waitress.server import BaseWSGIServer

from shop.serving.channel import Channel
from tests.real.process import free_port
from tests.servers import ServerProcess, by_waitress


def idle(environ: Any, start_response: Any) -> Iterable[bytes]:
    raise AssertionError("no request comes")


class Stalled(Channel):
    """Its socket takes what it is given only after a while: the kernel is at it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.began, self.goes_on = threading.Event(), threading.Event()
        super().__init__(*arguments, **named)

    def send(self, data: bytes, do_close: bool = True) -> int:
        self.began.set()
        assert self.goes_on.wait(30)
        sent: int = super().send(data, do_close)
        return sent


@pytest.fixture
def server() -> Iterator[BaseWSGIServer]:
    """A server whose loop does not run."""
    server = waitress.create_server(idle, listen="127.0.0.1:0", threads=1)
    yield server
    server.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_the_main_thread_leaves_what_another_thread_is_sending(
    server: BaseWSGIServer, ends: tuple[socket.socket, socket.socket]
) -> None:
    channel = Stalled(server, ends[0], ("", 0), server.adj, map={})
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(channel.write_soon, b"hello")
        assert channel.began.wait(30)
        assert channel.total_outbufs_len
        assert not channel.writable()
        channel.goes_on.set()
        assert sent.result(30) == 5
    assert not channel.writable()
    assert ends[1].recv(100) == b"hello"


def test_the_main_thread_sends_what_the_socket_did_not_take(
    server: BaseWSGIServer, ends: tuple[socket.socket, socket.socket]
) -> None:
    channel = Channel(server, ends[0], ("", 0), server.adj, map={})
    data = b"x" * 1_000_000  # more than a socket takes, less than goes to a file
    with ThreadPoolExecutor(1) as pool:
        pool.submit(channel.write_soon, data).result(30)
    received = 0
    while channel.writable():
        channel.handle_write()
        received += len(ends[1].recv(len(data)))
    assert received == len(data)


@pytest.mark.parametrize("pause", [0.0, 0.001], ids=["at-once", "slowly"])
def test_a_client_gets_all_of_a_long_answer_without_a_halt(tmp_path: Path, pause: float) -> None:
    port = free_port()
    command = by_waitress(f"127.0.0.1:{port}", "tests.gated_app:app")
    left, longest = 51200 * 1024, 0.0  # three times what waitress keeps before the sender waits
    with (
        ServerProcess(command, port, tmp_path) as process,
        closing(process.await_ready().connect()) as client,
    ):
        client.sendall(b"GET /?51200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while left > 0:
            began = time.monotonic()
            part = client.recv(65536)
            longest = max(longest, time.monotonic() - began)
            assert part
            left -= len(part)
            threading.Event().wait(pause)
    assert longest < 0.9, "the loop was not woken, and looked again when its second was over"
