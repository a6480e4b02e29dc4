"""A shop in several processes: some serve HTTP, others carry the commands out."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.application import Application
from shop.bootstrap import MODULES, PROJECTIONS, bootstrap, event_registry, open_event_store
from shop.config import ConfigurationError, Settings
from shop.domain.order import LineItem, OrderPlaced
from shop.domain.product import ProductCreated
from shop.eventsourcing import AggregateRef, Event
from shop.health import health_of
from shop.web import create_app
from tests.real.nats import NatsServer
from tests.real.process import free_port
from tests.servers import (
    PATIENCE,
    Reply,
    ServerProcess,
    ask,
    by_module,
    by_waitress,
)
from tests.waiting import await_true

PRODUCT = {"name": "Wireless Mouse", "price": 2999, "stock": 50}
CREATE = "/commands/shop.product.create"
LINE = {"name": "shop.product.create", "payload": PRODUCT}


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A server of a test's own, to be stopped."""
    with NatsServer() as server:
        yield server


def start(role: str, nats: str, directory: Path, scheme: str = "nats") -> ServerProcess:
    """A process of that role, on the database of a directory."""
    port = free_port()
    return ServerProcess(
        by_module(f"127.0.0.1:{port}"),
        port,
        directory,
        SHOP_ROLE=role,
        SHOP_EVENT_STORE=f"sqlite:///{directory / 'shop.db'}",
        SHOP_EVENT_BUS=f"{scheme}://{nats}?prefix=t{directory.name.replace('_', '-')}",
    )


class Load:
    """Clients that have product after product made, each asked for until it is."""

    def __init__(self, web: ServerProcess) -> None:
        self.done: dict[str, UUID] = {}
        """The products, by the idempotency keys of their commands."""
        self.refused: list[Reply] = []
        self._web = web
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._create) for _ in range(4)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def await_more(self, count: int) -> None:
        """Wait until so many more are made."""
        goal = len(self.done) + count
        await_true(lambda: len(self.done) >= goal or not all(c.is_alive() for c in self._clients))

    def end(self) -> None:
        """Have each client finish what it has begun; idempotent."""
        self._over.set()
        for client in self._clients:
            client.join(PATIENCE)

    def _create(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._web.port, timeout=PATIENCE)
        while not self._over.is_set():
            key = str(uuid4())
            while key not in self.done:
                reply = ask(connection, "POST", CREATE, PRODUCT, Idempotency_Key=key)
                if reply.status == 201:
                    self.done[key] = UUID(reply.json()["aggregate_id"])
                else:
                    self.refused.append(reply)
                    self._over.wait(0.05)
        connection.close()


def await_working(*workers: ServerProcess) -> None:
    await_true(lambda: all("carrying out commands" in worker.log for worker in workers))


def await_well(web: ServerProcess) -> None:
    """Wait until a web node has a connection and a worker."""
    await_true(lambda: web.request("GET", "/readyz").json()["degraded"] == [])


def await_worker(web: ServerProcess) -> None:
    await_true(lambda: web.request("POST", CREATE, PRODUCT).status == 201)


def created_products(directory: Path) -> list[UUID]:
    with open_event_store(f"sqlite:///{directory / 'shop.db'}", event_registry()) as store:
        return [event.aggregate.id for event in store.read() if event.name.endswith(".created")]


@pytest.mark.parametrize("role", ["web", "worker"])
def test_roles_that_need_others_are_refused_what_is_in_the_memory_of_one_process(role: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({"SHOP_ROLE": role, "SHOP_EVENT_STORE": "memory://"})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "SHOP_EVENT_BUS",
        "SHOP_EVENT_STORE",
        "SHOP_MODEL_STORE",
    ]
    assert all("memory of one process" in problem for problem in caught.value.problems)


def test_a_web_server_says_that_a_worker_serves_no_http(tmp_path: Path) -> None:
    with ServerProcess(
        by_waitress("127.0.0.1:0"),
        0,
        tmp_path,
        SHOP_ROLE="worker",
        SHOP_EVENT_BUS="nats://127.0.0.1:1",
    ) as server:
        assert server.await_exit() == 2
        assert "a worker serves no HTTP: start it with `python -m shop serve`" in server.log
        assert "Traceback" not in server.log


def test_commands_go_to_a_worker_and_reads_wait_for_its_models(nats: str, tmp_path: Path) -> None:
    with start("web", nats, tmp_path) as web:
        web.await_ready()
        await_true(lambda: "connected to NATS" in web.log)
        began = time.monotonic()
        refused = web.request("POST", CREATE, PRODUCT)
        assert time.monotonic() - began < 2
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["type"] == "urn:shop:problem:no-worker"
        assert created_products(tmp_path) == []
        ready = web.request("GET", "/readyz")
        assert (ready.status, ready.json()["ready"]) == (200, True)
        assert "no worker" in ready.json()["degraded"][0]
        with start("worker", nats, tmp_path) as worker:
            await_worker(web)
            key = str(uuid4())
            made = web.request("POST", CREATE, PRODUCT, Prefer="wait=10", Idempotency_Key=key)
            assert (made.status, made.headers["Preference-Applied"]) == (201, "wait")
            position = made.headers["Shop-Position"]
            for path in (made.headers["Location"], "/stats", "/orders"):
                read = web.request("GET", path, Shop_Min_Position=position, Prefer="wait=10")
                assert read.status == 200
                assert int(read.headers["Shop-Position"]) >= int(position)
            again = web.request("POST", CREATE, PRODUCT, Idempotency_Key=key)
            assert (again.status, again.body) == (201, made.body)
            assert again.headers["Idempotent-Replayed"] == "true"
            stale = web.request(
                "POST",
                f"/commands/shop.product.rename/{made.json()['aggregate_id']}",
                {"name": "Rat"},
                If_Match='"7"',
            )
            assert (stale.status, stale.json()["version"]) == (412, 1)
            ready = web.request("GET", "/readyz")
            assert (ready.status, ready.json()["degraded"]) == (200, [])
            assert {entry["state"] for entry in ready.json()["projections"]} == {"elsewhere"}
            assert web.request("GET", "/metrics").status == 200
            began = time.monotonic()
            worker.signal(signal.SIGTERM)
            assert worker.await_exit() == 0
            assert time.monotonic() - began < 10
            assert "Traceback" not in worker.log
        web.signal(signal.SIGTERM)
        assert web.await_exit() == 0
        assert "Traceback" not in web.log


def test_a_web_node_tells_what_its_workers_fail_to_do(nats: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    ref = AggregateRef("shop.product", uuid4())
    ago = datetime.now(UTC) - timedelta(minutes=2)
    with open_event_store(url, event_registry()) as store:
        created = Event.new(ref, version=1, data=ProductCreated("Mouse", 5), time=ago)
        store.append([created])
    settings = Settings(
        event_store=url, event_bus=f"nats://{nats}?prefix=t{uuid4().hex}", role="web"
    )
    with bootstrap(settings) as shop:
        client = create_app(shop).test_client()
        await_true(lambda: client.get("/readyz").status_code == 200)
        told = client.get("/readyz").get_json()["degraded"]
        late = [line for line in told if re.search(r"lacks an event that is 12\d s old", line)]
        assert [line.split()[1] for line in late] == ["product_catalog", "shop_stats"]
        metrics = client.get("/metrics").get_data(as_text=True)
        assert 'shop_projection_lag_seconds{projection="shop_stats"} 12' in metrics
        assert 'shop_workflow_parked{workflow="shop.payment_workflow"} 0.0' in metrics
        assert "shop_projection_failed{" not in metrics  # it cannot know


def test_a_web_node_tells_which_workflows_stand_still(
    nats: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop.health.MAX_LAG_SECONDS", 0.3)
    worker = Settings(
        event_store=f"sqlite:///{tmp_path / 'shop.db'}",
        event_bus=f"nats://{nats}?prefix=t{uuid4().hex}",
        payment_deadline=1.0,
        role="worker",
    )
    idle = Application(MODULES, PROJECTIONS)

    def degraded() -> str:
        return "\n".join(health_of(web).degraded)

    with bootstrap(msgspec.structs.replace(worker, role="web")) as web:
        with bootstrap(worker, application=idle) as shop:
            ref = AggregateRef("shop.order", uuid4())
            placed = OrderPlaced(uuid4(), (LineItem(uuid4(), "Mouse", 2999, 1),))
            shop.store.append([Event.new(ref, version=1, data=placed)])
            await_true(lambda: "workflow shop.payment_workflow lacks an event" in degraded())
        with bootstrap(worker) as shop:
            await_true(lambda: any(entry.timers for entry in shop.list_workflows()))
            await_true(lambda: "lacks an event" not in degraded())
        await_true(lambda: "a timer of shop.payment_workflow is due for" in degraded())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_are_restarted_under_load_and_every_command_is_done_once(
    number: signal.Signals, nats: str, tmp_path: Path
) -> None:
    with start("web", nats, tmp_path) as web:
        web.await_ready()
        first, second = start("worker", nats, tmp_path), start("worker", nats, tmp_path)
        with first, second:
            await_working(first, second)
            before = len(created_products(tmp_path))
            with Load(web) as load:
                load.await_more(50)
                first.signal(number)
                first.await_exit()
                load.await_more(50)
                with start("worker", nats, tmp_path) as third:
                    await_working(third)
                    second.signal(number)
                    second.await_exit()
                    load.await_more(50)
                    load.end()
    assert load.refused == []
    created = created_products(tmp_path)
    assert before == 0
    assert len(created) == len(set(created))
    assert set(load.done.values()) == set(created)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_are_restarted_during_batches_and_every_line_is_done_once(
    number: signal.Signals, nats: str, tmp_path: Path
) -> None:
    batches = [[{**LINE, "id": str(uuid4())} for _ in range(400)] for _ in range(2)]
    answers: list[list[dict[str, Any]]] = [[], []]

    def send(batch: int, results: list[dict[str, Any]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
        body = "\n".join(map(json.dumps, batches[batch]))
        connection.request("POST", "/commands", body, {"Content-Type": "application/x-ndjson"})
        results.extend(map(json.loads, connection.getresponse()))
        connection.close()

    def stop(worker: ServerProcess) -> None:
        """Stop a worker that has a line in hand, or leave it to finish that."""
        goal = sum(map(len, answers)) + 50
        await_true(lambda: sum(map(len, answers)) >= goal)
        if number is signal.SIGKILL:
            sent_again = web.log.count("is sent again")
            worker.signal(signal.SIGSTOP)
            await_true(lambda: web.log.count("is sent again") > sent_again)
        worker.signal(number)

    with (
        start("web", nats, tmp_path) as web,
        start("worker", nats, tmp_path) as first,
        start("worker", nats, tmp_path) as second,
        start("worker", nats, tmp_path) as third,
    ):
        await_working(first, second, third)
        web.await_ready()
        await_well(web)
        sending = [threading.Thread(target=send, args=(n, answers[n])) for n in range(2)]
        for thread in sending:
            thread.start()
        stop(first)
        stop(second)
        for thread in sending:
            thread.join(PATIENCE)
        assert {worker.await_exit() for worker in (first, second)} == {
            0 if number is signal.SIGTERM else -number
        }
        again: list[dict[str, Any]] = []
        send(0, again)
    assert again == answers[0]
    done = [result for results in answers for result in results]
    assert {result["status"] for result in done} == {201}
    assert [result["command_id"] for result in done] == [
        line["id"] for batch in batches for line in batch
    ]
    created = created_products(tmp_path)
    assert sorted(map(str, created)) == sorted(result["aggregate_id"] for result in done)


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_a_nats_that_goes_away_under_load_loses_and_doubles_nothing(
    how: str, server: NatsServer, tmp_path: Path
) -> None:
    with (
        start("web", server.address, tmp_path) as web,
        start("worker", server.address, tmp_path) as worker,
    ):
        web.await_ready()
        await_working(worker)
        await_well(web)
        with Load(web) as load:
            load.await_more(50)
            if how == "killed":
                server.kill()
                await_true(lambda: "no worker" in web.request("GET", "/readyz").body.decode())
                began = time.monotonic()
                refused = web.request("POST", CREATE, PRODUCT)
                assert time.monotonic() - began < 2
                assert refused.json()["type"] == "urn:shop:problem:no-worker"
                load.refused.append(refused)
                server.start()
            else:
                server.pause()
                await_true(lambda: "is sent again" in web.log)
                server.resume()
            began = time.monotonic()
            load.await_more(50)
            assert time.monotonic() - began < 10
            load.end()
        await_well(web)
        head = web.request("GET", "/events").headers["Shop-Position"]
        stats = web.request("GET", "/stats", Shop_Min_Position=head, Prefer="wait=10")
    assert (how == "paused") == (load.refused == [])
    assert {(reply.status, reply.headers["Retry-After"]) for reply in load.refused} <= {(503, "1")}
    created = created_products(tmp_path)
    assert sorted(load.done.values()) == sorted(created)
    assert stats.json()["total_products"] == len(created)


@pytest.mark.parametrize("how", ["killed", "paused"])
@pytest.mark.parametrize(("role", "status"), [("all", 201), ("web", 503), ("worker", None)])
def test_a_process_stops_cleanly_when_nats_is_gone(
    role: str, status: int | None, how: str, server: NatsServer, tmp_path: Path
) -> None:
    with start(role, server.address, tmp_path, "nats+jetstream") as node:
        if status is None:
            await_working(node)
        else:
            node.await_ready()
        await_true(lambda: "connected to NATS" in node.log)
        server.pause()
        asked = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE)
        if status is not None:
            asked.request("POST", CREATE, json.dumps(PRODUCT), {"Content-Type": "application/json"})
        if how == "killed":
            server.kill()
            await_true(lambda: "no connection to" in node.log)
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        if status is not None:
            assert asked.getresponse().status == status
        asked.close()
        assert node.await_exit() == 0
        assert time.monotonic() - began < 10
        assert "shop.serving.server: stopped" in node.log
        assert "Traceback" not in node.log
    if how == "paused":
        server.resume()


def test_it_stops_in_time_though_nobody_lets_it(server: NatsServer, tmp_path: Path) -> None:
    with start("all", server.address, tmp_path, "nats+jetstream") as node:
        node.await_ready()
        await_well(node)
        server.pause()
        assert node.request("POST", CREATE, PRODUCT).status == 201
        with socket.create_connection(("127.0.0.1", node.port)) as never_sent:
            never_sent.sendall(b"GET / HTTP/1.1\r\n")
            began = time.monotonic()
            node.signal(signal.SIGTERM)
            assert node.await_exit() == 0
            assert time.monotonic() - began < 10
        assert "shop.serving.server: stopped" in node.log
    server.resume()
