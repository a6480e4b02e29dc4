"""The connection: calls that end, whatever the server does, and subscriptions that last."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import pytest
from nats.aio.client import Client

from shop.backends.nats import Access, NatsConnection, NatsRequests
from shop.backends.nats.client import Message, StrictClient
from shop.backends.nats.listening import Listening
from shop.eventsourcing import (
    BusClosedError,
    BusUnavailableError,
    MessageTooLargeError,
    NoAnswerError,
    NoResponderError,
)
from tests.conftest import Eventually
from tests.interrupting import press_ctrl_c_during
from tests.real.nats import NatsServer, malformed, publish, send
from tests.real.proxy import CuttingProxy
from tests.servers import run


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def connection(server: NatsServer) -> Iterator[NatsConnection]:
    with NatsConnection(Access(servers=[server.address])) as connection:
        assert connection.wait_connected(10)
        yield connection


def test_requests_are_answered_by_another_thread(connection: NatsConnection) -> None:
    asked: SimpleQueue[Message] = SimpleQueue()
    connection.listen("double", asked.put, group="workers")

    def serve() -> None:
        message = asked.get(timeout=10)
        publish(connection, message.reply, message.data * 2, {"Shop-Kind": "b"})

    serving = threading.Thread(target=serve)
    serving.start()
    answer = connection.request("double", b"ab", timeout=10)
    serving.join()
    assert (answer.data, answer.headers["Shop-Kind"]) == (b"abab", "b")


def test_each_of_many_threads_gets_the_answer_to_its_own_request(
    connection: NatsConnection,
) -> None:
    asked: SimpleQueue[Message] = SimpleQueue()
    connection.listen("double", asked.put)

    def serve() -> None:
        answered = 0
        while answered < 800:
            messages = [asked.get(timeout=10)]
            while not asked.empty():
                messages.append(asked.get())
            for message in reversed(messages):
                publish(connection, message.reply, message.data * 2)
            answered += len(messages)

    def ask(number: int) -> list[bytes]:
        return [
            connection.request("double", b"%d " % (number * 100 + turn), timeout=10).data
            for turn in range(100)
        ]

    with ThreadPoolExecutor(9) as threads:
        serving = threads.submit(serve)
        answers = list(threads.map(ask, range(8)))
        serving.result()
    assert answers == [
        [b"%d " % (number * 100 + turn) * 2 for turn in range(100)] for number in range(8)
    ]


def test_a_request_that_gets_no_answer_says_why_and_in_time(connection: NatsConnection) -> None:
    with pytest.raises(NoResponderError):
        connection.request("nobody", b"", timeout=10)
    connection.listen("silent", lambda message: None)
    with pytest.raises(NoAnswerError, match=r"within 0\.1 s"):
        connection.request("silent", b"", timeout=0.1)


def test_a_time_out_that_is_swallowed_is_told_all_the_same(connection: NatsConnection) -> None:
    async def stubborn(client: Client) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    with pytest.raises(NoAnswerError, match="no answer within 1 s"):
        connection.run(stubborn, timeout=-4)  # whoever waits is patient for 5 s more


def test_whoever_waits_when_the_connection_breaks_is_told_at_once(
    server: NatsServer, connection: NatsConnection
) -> None:
    asked: SimpleQueue[Message] = SimpleQueue()
    connection.listen("silent", asked.put)

    def kill() -> None:
        asked.get(timeout=10)
        server.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match="broke"):
        connection.request("silent", b"", timeout=30)
    assert time.monotonic() - began < 10
    killing.join()
    with pytest.raises(BusUnavailableError, match="no connection to"):
        publish(connection, "a", b"")
    server.start()
    assert connection.wait_connected(10)


def test_whoever_waits_when_the_connection_is_closed_is_told_at_once(
    connection: NatsConnection,
) -> None:
    asked: SimpleQueue[Message] = SimpleQueue()
    connection.listen("silent", asked.put)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(connection.request, "silent", b"", timeout=30)
        asked.get(timeout=10)
        connection.close()
        with pytest.raises(BusClosedError):
            waiting.result(timeout=5)
    with pytest.raises(BusClosedError):
        connection.request("silent", b"", timeout=30)


def test_who_fails_at_a_message_is_logged_and_hears_the_next(
    connection: NatsConnection, caplog: pytest.LogCaptureFixture
) -> None:
    heard: SimpleQueue[bytes] = SimpleQueue()

    def deliver(message: Message) -> None:
        heard.put(bytes.fromhex(message.data.decode()))

    connection.listen("a", deliver)
    publish(connection, "a", b"nonsense")
    publish(connection, "a", b"ff")
    assert heard.get(timeout=10) == b"\xff"
    assert "non-hexadecimal number" in caplog.text


def answers(connection: NatsConnection) -> bool:
    """Whether the server answers: that there is nobody."""
    with pytest.raises((NoResponderError, NoAnswerError, BusUnavailableError)) as error:
        connection.request("nobody", b"", timeout=0.2)
    return error.type is NoResponderError


@pytest.mark.parametrize("before", [b"PONG", b"HMSG"], ids=["connecting", "connected"])
@pytest.mark.parametrize("noise", [b'INFO {"x": 1}\r\n', b"INFO [1]\r\n", b"-ERR '\xff'\r\n"])
def test_a_server_that_says_what_is_not_understood_is_left_for_a_new_connection(
    server: NatsServer, noise: bytes, before: bytes, eventually: Eventually
) -> None:
    with CuttingProxy(server.port) as proxy:
        proxy.insert(noise, before=before)
        with NatsConnection(Access(servers=[f"127.0.0.1:{proxy.port}"])) as connection:
            eventually(lambda: answers(connection))


def test_a_message_that_no_client_would_send_is_heard_like_any_other(
    server: NatsServer, connection: NatsConnection
) -> None:
    heard: SimpleQueue[Message] = SimpleQueue()
    connection.listen("a.>", heard.put)
    for message in malformed("a.b"):
        send(server.address, message)
        assert heard.get(timeout=1).data == b"{}"
    publish(connection, "a.b", b"c")
    assert heard.get(timeout=1).data == b"c"


def test_what_was_posted_before_the_end_is_still_sent(
    server: NatsServer, connection: NatsConnection
) -> None:
    heard: SimpleQueue[Message] = SimpleQueue()
    connection.listen("a", heard.put)
    with NatsConnection(Access(servers=[server.address])) as other:
        assert other.wait_connected(10)
        client = other.client
        assert client is not None
        for number in range(1000):
            client.post("a", b"%d" % number)
    assert [heard.get(timeout=10).data for _ in range(1000)] == [b"%d" % n for n in range(1000)]


def test_a_server_that_is_killed_with_something_unsent_to_it_is_told_in_a_line(
    server: NatsServer,
    connection: NatsConnection,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.pause()
    for _ in range(60):
        publish(connection, "a", b"x" * 100_000)
    server.kill()
    eventually(lambda: not connection.connected)
    connection.close()
    gc.collect()  # a task of nats-py that failed is told then
    assert {record.name for record in caplog.records} == {"shop.backends.nats.link"}
    assert not any(record.exc_info for record in caplog.records)


def test_the_log_says_which_connections_there_are_and_which_there_are_not(
    server: NatsServer, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def told() -> set[str]:
        return {record.getMessage().rpartition(" for ")[2] for record in caplog.records}

    with NatsConnection(Access(servers=[server.address]), purpose="events") as connection:
        other = connection.another("the relay", echo=True)
        assert connection.wait_connected(10)
        assert other.wait_connected(10)
        assert told() == {"events", "the relay"}
        caplog.clear()
        server.kill()
        eventually(lambda: not connection.connected and not other.connected)
        assert told() == {"events", "the relay"}


def test_subscriptions_and_requests_outlive_the_server(
    server: NatsServer, connection: NatsConnection, eventually: Eventually
) -> None:
    heard: SimpleQueue[Message] = SimpleQueue()
    connection.listen("a.*", heard.put)
    with pytest.raises(NoResponderError):
        connection.request("nobody", b"", timeout=10)
    server.kill()
    eventually(lambda: not connection.connected)
    connection.listen("b", heard.put)
    server.start()
    assert connection.wait_connected(10)
    publish(connection, "a.b", b"1")
    publish(connection, "b", b"2")
    assert [heard.get(timeout=10).data for _ in range(2)] == [b"1", b"2"]
    with pytest.raises(NoResponderError):
        connection.request("nobody", b"", timeout=10)


def test_what_is_closed_while_a_connection_is_made_is_not_served_by_it(
    server: NatsServer, connection: NatsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached, closed = threading.Event(), threading.Event()

    async def attach(self: Listening, client: StrictClient) -> None:
        await real_attach(self, client)
        attached.set()
        while not closed.is_set():
            await asyncio.sleep(0.001)

    listening = connection.listen("a", lambda message: None)
    real_attach = Listening.attach
    monkeypatch.setattr(Listening, "attach", attach)
    server.kill()
    server.start()
    assert attached.wait(10)
    listening.close()
    closed.set()
    assert connection.wait_connected(10)
    with pytest.raises(NoResponderError):
        connection.request("a", b"", timeout=1)


def test_a_message_over_the_maximum_is_refused_headers_included(
    connection: NatsConnection,
) -> None:
    with pytest.raises(MessageTooLargeError):
        publish(connection, "a", b"x" * (1024 * 1024 - 10), {"A": "b"})
    publish(connection, "a", b"x" * (1024 * 1024 - 30), {"A": "b"})
    assert connection.connected


def test_the_server_knows_at_once_who_listens_and_who_does_not_any_more(
    server: NatsServer, connection: NatsConnection
) -> None:
    with NatsConnection(Access(servers=[server.address])) as other:
        assert other.wait_connected(10)
        for number in range(500):
            subject = f"s{number}"
            member = NatsRequests(connection).serve([subject], "g", lambda r: r.answer(r.data))
            assert other.request(subject, b"a", timeout=1).data == b"a"
            member.close(1)
            with pytest.raises(NoResponderError):
                other.request(subject, b"a", timeout=1)


def test_a_silent_server_is_not_waited_for_to_know_of_a_group(
    server: NatsServer, connection: NatsConnection
) -> None:
    server.pause()
    began = time.monotonic()
    members = NatsRequests(connection).serve([*"abcdefghij"], "g", lambda request: None)
    assert time.monotonic() - began < 3
    server.resume()
    members.close(10)
    assert answers(connection)
    assert connection.connects == 1


def test_it_ends_in_time_with_a_silent_server_and_is_closed_then(
    server: NatsServer, connection: NatsConnection
) -> None:
    server.pause()
    began = time.monotonic()
    connection.close(1.0)
    assert time.monotonic() - began < 3
    with pytest.raises(BusClosedError):
        publish(connection, "a", b"")
    server.resume()


def test_it_ends_at_once_at_any_moment_of_its_beginning(server: NatsServer) -> None:
    for number in range(300):
        connection = NatsConnection(Access(servers=[server.address]))
        connection.wait_connected(number % 30 * 0.0001)
        began = time.monotonic()
        connection.close()
        assert time.monotonic() - began < 1


def test_who_is_interrupted_while_he_sends_keeps_nothing_from_being_sent(
    connection: NatsConnection, restless: None, ctrl_c: None
) -> None:
    client = connection.client
    assert client is not None
    heard = SimpleQueue[bytes]()
    connection.listen("marks", lambda message: heard.put(message.data))
    for n in range(300):
        press_ctrl_c_during(lambda: client.post("elsewhere", b""), within=0.002)
        mark = str(n).encode()
        client.post("marks", mark)
        assert heard.get(timeout=10) == mark


_SILENT_NAME_SERVER = """
import socket, threading
begun = threading.Event()
def never(*arguments, **hints):
    begun.set()
    threading.Event().wait()
socket.getaddrinfo = never
from shop.backends.nats import Access, NatsConnection
connection = NatsConnection(Access(servers=["nats.example:4222"]))
assert begun.wait(10)
connection.close()
"""


def test_a_process_ends_although_a_name_server_is_silent(tmp_path: Path) -> None:
    run(sys.executable, "-c", _SILENT_NAME_SERVER, directory=tmp_path)  # in a minute at most


@pytest.mark.parametrize(
    ("host", "told"),
    [("no-such-host.invalid", "no connection to"), ("a" * 70 + ".invalid", "label")],
    ids=["unknown", "impossible"],
)
def test_a_name_that_leads_nowhere_is_told(host: str, told: str, eventually: Eventually) -> None:
    with NatsConnection(Access(servers=[f"{host}:4222"])) as connection:
        eventually(lambda: told in str(connection.problem))
