"""Stopping waitress: an app whose requests last as long as the test wants, in real processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop.serving.draining import MIN_DRAIN_SECONDS
from tests.real.process import free_port
from tests.servers import (
    ServerProcess,
    ask,
    by_waitress,
    environment,
    receive,
)
from tests.waiting import await_true

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
AT_GATE = b"GET /gate HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Gate:
    """Where requests to ``/gate`` wait until it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def open(self) -> None:
        # A pipe opens when both ends do; this end is kept open for those who come later.
        self._open = self.path.open("w")

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture
def server(tmp_path: Path, gate: Gate) -> Iterator[ServerProcess]:
    """A server with one thread."""
    port = free_port()
    command = by_waitress(f"127.0.0.1:{port}", "tests.gated_app:app", "--threads=1")
    with ServerProcess(command, port, tmp_path, GATE=str(gate.path)) as process:
        yield process.await_ready()


def send(server: ServerProcess, *parts: bytes) -> socket.socket:
    connection = server.connect()
    connection.sendall(b"".join(parts))
    return connection


def hold(server: ServerProcess) -> socket.socket:
    """A request that the server is busy with until the gate is opened."""
    connection = send(server, AT_GATE)
    await_true(lambda: "at the gate" in server.log)
    return connection


def stop(server: ServerProcess, number: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal, and wait until the server refuses connections."""
    server.signal(number)
    await_true(server.refuses)


def goes_on(server: ServerProcess) -> bool:
    """Whether the server goes on for longer than it would without anything left to do."""
    try:
        server.process.wait(5 * MIN_DRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_requests_under_way_and_those_queued_behind_are_answered(
    server: ServerProcess, gate: Gate, number: signal.Signals
) -> None:
    under_way = hold(server)
    queued = [send(server, GET) for _ in range(5)]
    stop(server, number)
    gate.open()
    for connection in (under_way, *queued):
        with connection:
            answer = receive(connection)
            assert answer.status == 200
            assert answer.body == b"x" * 1024
            assert answer.headers["Connection"] == "close"
    assert server.await_exit() == 0
    gate.close()


def test_the_app_hears_of_the_stop_while_requests_are_under_way(
    server: ServerProcess, gate: Gate
) -> None:
    with hold(server):
        stop(server)
        await_true(lambda: "gated_app:stopping" in server.log)
        assert server.process.poll() is None
        gate.open()
    assert server.await_exit() == 0
    gate.close()


def test_a_request_that_has_arrived_in_part_is_answered(server: ServerProcess) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
    with send(server, head, b"first") as connection:
        stop(server)
        assert goes_on(server)
        connection.sendall(b"later")
        assert receive(connection).body == b"firstlater"
    assert server.await_exit() == 0


def test_a_connection_made_before_the_signal_may_still_send_its_request(
    server: ServerProcess,
) -> None:
    with server.connect() as connection:
        server.signal(signal.SIGTERM)
        await_true(lambda: "gated_app:stopping" in server.log)
        connection.sendall(GET)
        assert receive(connection).status == 200
    assert server.await_exit() == 0


def test_the_next_request_of_a_kept_connection_is_its_last(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    assert "Connection" not in ask(connection, "GET", "/").headers
    server.signal(signal.SIGTERM)
    await_true(lambda: "gated_app:stopping" in server.log)
    assert ask(connection, "GET", "/").headers["Connection"] == "close"
    connection.close()
    assert server.await_exit() == 0


def test_an_answer_that_the_client_is_slow_to_read_arrives_whole(server: ServerProcess) -> None:
    # More than the sockets hold, and less than has waitress make the app wait.
    with send(server, GET.replace(b"/ ", b"/?12000 ", 1)) as connection:
        connection.recv(1, socket.MSG_PEEK)
        stop(server)
        assert goes_on(server)
        assert len(receive(connection).body) == 12000 * 1024
    assert server.await_exit() == 0


def test_idle_connections_delay_the_stop_by_no_more_than_a_moment(server: ServerProcess) -> None:
    idle = [send(server, GET) for _ in range(3)]
    assert [receive(connection).status for connection in idle] == [200] * 3
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.await_exit() == 0
    assert time.monotonic() - began < 3
    for connection in idle:
        connection.close()


def test_a_request_that_never_ends_is_given_up_in_time(server: ServerProcess) -> None:
    with hold(server), send(server, GET):
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.await_exit() == 0
        assert time.monotonic() - began < 10
    assert "stopping with 2 requests unanswered after 5 s" in server.log


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(
    server: ServerProcess, first: signal.Signals, second: signal.Signals
) -> None:
    with hold(server):
        stop(server, first)

        def ended() -> bool:
            # A second SIGTERM counts as one from a moment on only.
            server.signal(second)
            return server.process.poll() is not None

        await_true(ended)
    assert server.process.returncode == -second


def test_a_signal_that_comes_twice_at_the_same_time_is_one(tmp_path: Path, gate: Gate) -> None:
    """As from make, when its whole process group is told to end."""
    port = free_port()
    command = by_waitress(f"127.0.0.1:{port}", "tests.gated_app:app")
    with ServerProcess(command, port, tmp_path, GATE=str(gate.path), ECHO="yes") as server:
        server.await_ready()
        with hold(server) as held:
            stop(server)
            gate.open()
            assert receive(held).status == 200
        assert server.await_exit() == 0
        gate.close()


def test_all_listening_sockets_are_served_and_closed(tmp_path: Path, gate: Gate) -> None:
    first, second = free_port(), free_port()
    command = by_waitress(
        f"127.0.0.1:{first}", "tests.gated_app:app", f"--listen=127.0.0.1:{second}", "--threads=1"
    )
    with ServerProcess(command, first, tmp_path, GATE=str(gate.path)) as server:
        server.await_ready()
        with hold(server) as held, socket.create_connection(("127.0.0.1", second)) as queued:
            queued.sendall(GET)
            stop(server)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", second))
            gate.open()
            assert receive(held).status == receive(queued).status == 200
        assert server.await_exit() == 0
        gate.close()


def test_clients_who_keep_coming_are_answered_or_refused_never_cut_off(
    server: ServerProcess,
) -> None:
    """Every connection that was made is answered, up to the very last before the refusal."""
    answered = refused = 0
    signalled = False
    while not refused:
        try:
            connection = server.connect()
        except ConnectionRefusedError:
            refused += 1
            continue
        with connection:
            connection.sendall(GET)
            assert receive(connection).status == 200
        answered += 1
        if answered == 50 and not signalled:
            signalled = True
            server.signal(signal.SIGTERM)
    assert server.await_exit() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_a_server_the_signal_is_an_orderly_exit(number: signal.Signals) -> None:
    program = """
import atexit, time
from shop.serving.draining import stop_on_signals
atexit.register(print, "cleaned up")
stop_on_signals(lambda: None)
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=10)[0] == "cleaned up\n"
    assert process.returncode == 0
