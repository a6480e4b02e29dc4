"""Serving the shop as users do: starting, stopping, dying and starting again."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shop.bootstrap import event_registry, open_event_store
from tests.real.process import free_port
from tests.servers import (
    PATIENCE,
    ROOT,
    WAYS,
    ServerProcess,
    ask,
    by_module,
    by_waitress,
    environment,
    receive,
    run,
)
from tests.waiting import await_true

PRODUCT = {"name": "Wireless Mouse", "price": 2999, "stock": 50}
NO_ADDRESS = "it is no HOST:PORT of a host that there is, such as 127.0.0.1:8080"
CREATE = "/commands/shop.product.create"

Way = Callable[[str], list[str]]


def start(way: Way, directory: Path, **variables: str) -> ServerProcess:
    """A shop on the database of a directory."""
    port = free_port()
    variables = {"SHOP_EVENT_STORE": f"sqlite:///{directory / 'shop.db'}", **variables}
    return ServerProcess(way(f"127.0.0.1:{port}"), port, directory, **variables)


def created_products(directory: Path) -> set[UUID]:
    """The products in the database of a directory."""
    with open_event_store(f"sqlite:///{directory / 'shop.db'}", event_registry()) as store:
        return {event.aggregate.id for event in store.read() if event.version == 1}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_requests_finish_and_ends_the_process_cleanly(
    way: Way, number: signal.Signals, tmp_path: Path
) -> None:
    lines = [
        json.dumps({"name": "shop.product.create", "payload": PRODUCT}).encode() + b"\n"
        for _ in range(2)
    ]
    head = (
        "POST /commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {sum(map(len, lines))}\r\n\r\n"
    )
    wait = (
        b"GET /products HTTP/1.1\r\nHost: localhost\r\n"
        b"Shop-Min-Position: 1000000\r\nPrefer: wait=30\r\n\r\n"
    )
    with start(way, tmp_path) as server:
        server.await_ready()
        product = server.request("POST", CREATE, PRODUCT).json()["aggregate_id"]
        with server.connect() as waiting, server.connect() as uploading:
            waiting.sendall(wait)
            uploading.sendall(head.encode() + lines[0])
            began = time.monotonic()
            server.signal(number)
            await_true(server.refuses)
            assert receive(waiting).status == 503
            uploading.sendall(lines[1])
            answers = [json.loads(line) for line in receive(uploading).body.splitlines()]
        code = server.await_exit()
        assert time.monotonic() - began < 10
        assert "shop.serving.server: stopped" in server.log
        assert "Traceback" not in server.log
    # make itself dies of the signal, once the server has ended.
    assert code == (-number if way is WAYS["make run"] else 0)
    assert len(answers) == len(lines)
    done = {UUID(answer["aggregate_id"]) for answer in answers if answer["status"] == 201}
    assert created_products(tmp_path) == done | {UUID(product)}


def test_it_stops_in_time_with_both_of_its_files_locked_and_a_silent_bus(tmp_path: Path) -> None:
    files = {"SHOP_EVENT_STORE": "events.db", "SHOP_MODEL_STORE": "models.db"}
    urls = {variable: f"sqlite:///{name}" for variable, name in files.items()}
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        start(
            by_module,
            tmp_path,
            SHOP_EVENT_BUS=f"nats+jetstream://127.0.0.1:{silent.getsockname()[1]}",
            **urls,
        ) as server,
    ):
        server.await_ready()
        server.request("POST", CREATE, PRODUCT, prefer="wait=5")
        with ExitStack() as locks:
            for name in files.values():
                other = locks.enter_context(closing(sqlite3.connect(tmp_path / name)))
                other.execute("BEGIN IMMEDIATE")
            with server.connect() as waiting:
                body = json.dumps(PRODUCT)
                waiting.sendall(
                    f"POST {CREATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                    f"Content-Type: application/json\r\n\r\n{body}".encode()
                )
                began = time.monotonic()
                server.signal(signal.SIGTERM)
                assert server.await_exit() == 0
                assert time.monotonic() - began < 10


def test_a_terminal_that_is_closed_may_say_so_twice(tmp_path: Path) -> None:
    """The kernel tells the processes in the foreground, and so may the shell."""
    with start(by_module, tmp_path) as server:
        server.await_ready()
        with server.connect() as waiting:
            waiting.sendall(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n")
            server.signal(signal.SIGHUP)
            await_true(server.refuses)
            server.signal(signal.SIGHUP)
            waiting.sendall(b"\r\n")
            assert receive(waiting).status == 200
        assert server.await_exit() == 0


def test_what_is_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    def with_nohup(listen: str) -> list[str]:
        return ["nohup", *by_module(listen)]

    with start(with_nohup, tmp_path) as server:
        server.await_ready()
        server.signal(signal.SIGHUP)
        assert server.request("GET", "/stats").status == 200
        server.signal(signal.SIGTERM)
        assert server.await_exit() == 0
        assert "SIGTERM: answering" in server.log


def test_make_passes_a_signal_on(tmp_path: Path) -> None:
    with start(WAYS["make run"], tmp_path) as server:
        server.await_ready()
        server.process.terminate()
        server.await_exit()
        assert "shop.serving.server: stopped" in server.log


def test_what_was_acknowledged_under_load_is_there_after_a_stop(tmp_path: Path) -> None:
    acknowledged: list[UUID] = []
    failures: list[BaseException] = []

    def create_until_refused(*, keep: bool) -> None:
        try:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return
                last = False
                while not last:
                    reply = ask(connection, "POST", CREATE, PRODUCT)
                    assert reply.status == 201
                    acknowledged.append(UUID(reply.json()["aggregate_id"]))
                    last = not keep or reply.headers.get("Connection") == "close"
                connection.close()
        except BaseException as error:  # noqa: BLE001 - the test's own thread tells it
            failures.append(error)

    with start(by_module, tmp_path) as server:
        server.await_ready()
        clients = [
            threading.Thread(target=create_until_refused, kwargs={"keep": n % 2 == 0})
            for n in range(8)
        ]
        for client in clients:
            client.start()
        await_true(lambda: len(acknowledged) > 200 or failures)
        server.signal(signal.SIGTERM)
        for client in clients:
            client.join(PATIENCE)
        assert server.await_exit() == 0
    assert failures == []
    assert created_products(tmp_path) == set(acknowledged)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_in_the_background_of_a_script_stops_as_well(
    number: signal.Signals, tmp_path: Path
) -> None:
    """A shell without job control starts what it puts in the background with SIGINT ignored."""

    def in_background(listen: str) -> list[str]:
        script = '"$@" & echo $! > pid; wait $!; echo exited with $?'
        return ["sh", "-c", script, "sh", *by_waitress(listen)]

    with start(in_background, tmp_path) as server:
        server.await_ready()
        pid = (tmp_path / "pid").read_text().strip()
        subprocess.run(["sh", "-c", f"kill -{number} {pid}"], check=True)
        assert server.await_exit() == 0
        assert "exited with 0" in server.log


def test_after_a_kill_everything_acknowledged_is_there(tmp_path: Path) -> None:
    with start(by_waitress, tmp_path) as server:
        server.await_ready()
        ids = [server.request("POST", CREATE, PRODUCT).json()["aggregate_id"] for _ in range(20)]
        server.signal(signal.SIGKILL)
        server.await_exit()
    with start(by_waitress, tmp_path) as server:
        server.await_ready()
        listed = server.request("GET", "/products", Shop_Min_Position="40", Prefer="wait=10").json()
        assert [product["id"] for product in listed["items"]] == ids


def with_open_files(limits: str) -> Way:
    """A way to serve with so many open files, ``SOFT:HARD``."""
    return lambda listen: ["prlimit", f"--nofile={limits}", *by_module(listen)]


def test_a_low_limit_of_open_files_is_raised_as_far_as_it_may_be(tmp_path: Path) -> None:
    with start(with_open_files("64:256"), tmp_path) as server, ExitStack() as clients:
        server.await_ready()
        connections = [clients.enter_context(server.connect()) for _ in range(100)]
        for connection in connections:
            connection.sendall(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [receive(connection).status for connection in connections] == [200] * 100


def test_files_that_run_out_do_not_flood_the_log(tmp_path: Path) -> None:
    with start(with_open_files("64:64"), tmp_path) as server:
        server.await_ready()
        with ExitStack() as clients:
            for _ in range(64):
                clients.enter_context(server.connect())
            await_true(lambda: server.log.count("Too many open files") >= 3)
            assert server.log.count("Too many open files") < 10
        assert server.request("GET", "/stats").status == 200


def test_a_port_that_is_taken_is_said_in_one_line(way: Way, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ServerProcess(
            way(f"127.0.0.1:{port}"), port, tmp_path, SHOP_EVENT_STORE="memory://"
        ) as server:
            assert server.await_exit() != 0
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in server.log
            assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("THREADS=0", "THREADS must be a number from 1 on, not 0"),
        ("THREADS=x", "THREADS must be a number from 1 on, not x"),
        ("LISTEN=127.0.0.1:65536", "LISTEN must have a port up to 65535, not 127.0.0.1:65536"),
        ("LISTEN=nohost.invalid:1", f"cannot listen on nohost.invalid:1: {NO_ADDRESS}"),
    ],
)
def test_make_run_says_in_one_line_what_is_wrong_with_its_variables(
    given: str, told: str, tmp_path: Path
) -> None:
    def way(listen: str) -> list[str]:
        return [*WAYS["make run"](listen), given]

    with start(way, tmp_path) as server:
        assert server.await_exit() == 2
        assert told in server.log.splitlines()
        assert "Traceback" not in server.log


@pytest.mark.parametrize("listen", ["nohost.invalid:1", "127.0.0.1:x", "nohost.invalid"])
def test_an_address_that_is_none_is_told_as_bad_configuration(listen: str, tmp_path: Path) -> None:
    with start(lambda _: by_waitress(listen), tmp_path) as server:
        assert server.await_exit() == 2
        assert f"cannot listen on {listen}: {NO_ADDRESS}" in server.log.splitlines()
        assert "shop.serving.server: stopped" in server.log
        assert "Traceback" not in server.log


def test_a_port_that_is_taken_is_named_as_ipv6_writes_it(tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with ServerProcess(
            by_module(f"[::1]:{port}"), port, tmp_path, SHOP_EVENT_STORE="memory://"
        ) as server:
            assert server.await_exit() == 1
            assert f"cannot listen on [::1]:{port}: Address already in use" in server.log


@pytest.mark.parametrize("way", [by_waitress, by_module])
def test_bad_configuration_is_told_at_once_and_without_passwords(way: Way, tmp_path: Path) -> None:
    bad = {"SHOP_EVENT_STORE": "mysql://me:s3cret@db/shop", "SHOP_EVENT_BUSS": "memory://"}
    with start(way, tmp_path, **bad) as server:
        assert server.await_exit() == 2
        assert "SHOP_EVENT_STORE" in server.log
        assert "SHOP_EVENT_BUSS: there is no such setting" in server.log
        assert "s3cret" not in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize("way", [by_waitress, by_module])
def test_a_store_that_cannot_be_used_is_told_in_one_message(way: Way, tmp_path: Path) -> None:
    with start(way, tmp_path, SHOP_EVENT_STORE=f"sqlite:///{tmp_path}/missing/shop.db") as server:
        assert server.await_exit() == 1
        assert f"there is no directory {tmp_path}/missing" in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "import wsgi"],
        [
            sys.executable,
            "-c",
            "import threading as t; t.Thread(target=__import__, args=['wsgi']).start()",
        ],
        [sys.executable, "-m", "flask", "--app", "wsgi", "routes"],
    ],
    ids=["imported", "imported by a thread", "flask"],
)
def test_a_program_that_imports_the_app_ends_when_it_is_done(
    command: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(SHOP_EVENT_STORE="memory://"),
        timeout=PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "shop.serving.server: stopped" in done.stderr


def test_log_records_are_lines_with_time_level_thread_and_logger(tmp_path: Path) -> None:
    with start(by_waitress, tmp_path, SHOP_CORES="all") as server:
        server.await_ready()
        await_true(lambda: "Serving on" in server.log)
        lines = [line.split(maxsplit=4) for line in server.log.splitlines()]
        assert all(time.endswith("Z") for time, *_ in lines)
        assert [tuple(line[1:4]) for line in lines] == [
            ("INFO", "MainThread", "shop.serving.server:"),
            ("INFO", "MainThread", "shop.runtime:"),
            ("INFO", "MainThread", "waitress:"),
        ]
        settings, position, serving = (line[4] for line in lines)
        assert settings.startswith(f"starting in {tmp_path} with SHOP_EVENT_STORE=sqlite:///")
        assert position == "the log is at position 0"
        assert serving == f"Serving on http://127.0.0.1:{server.port}"


def test_the_connections_are_the_shops_own(tmp_path: Path) -> None:
    look = "import wsgi; from waitress.server import BaseWSGIServer as s; print(s.channel_class)"
    told = run(sys.executable, "-c", look, directory=tmp_path, SHOP_EVENT_STORE="memory://")
    assert told == "<class 'shop.serving.channel.Channel'>\n"


@pytest.mark.parametrize(("wanted", "stays"), [("keep-alive", True), ("close", False)])
def test_a_connection_stays_open_after_304_unless_the_client_wants_it_closed(
    tmp_path: Path, wanted: str, *, stays: bool
) -> None:
    with start(by_waitress, tmp_path, SHOP_EVENT_STORE="memory://") as server:
        server.await_ready()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        tag = ask(connection, "GET", "/events").headers["Etag"]
        taken = connection.sock
        for _ in range(2 if stays else 1):
            asked = {"If-None-Match": tag, "Connection": wanted}
            assert ask(connection, "GET", "/events", **asked).status == 304
            assert (connection.sock is taken) == stays
        connection.close()


def test_every_way_to_serve_tells_waitress_the_same() -> None:
    from shop.serving.server import ADJUSTMENTS

    recipe = (ROOT / "Makefile").read_text()
    unit = (ROOT / "docs" / "shop.service").read_text()
    for name, value in ADJUSTMENTS.items():
        option = f"--{name.replace('_', '-')}"
        expected = option if value is True else f"{option}={'' if value is None else value}"
        assert f"{expected} " in recipe.replace("\n", " ")
        assert f"{expected} " in unit.replace("\n", " ")


def test_two_servers_may_share_a_database(tmp_path: Path) -> None:
    with start(by_waitress, tmp_path) as one, start(by_waitress, tmp_path) as other:
        one.await_ready()
        other.await_ready()
        key = str(uuid4())
        first = one.request("POST", CREATE, PRODUCT, Idempotency_Key=key)
        again = other.request("POST", CREATE, PRODUCT, Idempotency_Key=key)
        assert again.json() == first.json()
        assert again.headers["Idempotent-Replayed"] == "true"
