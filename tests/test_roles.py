"""A shop in several processes: some serve HTTP, others carry the commands out."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shop.bootstrap import event_registry, open_event_store
from shop.config import ConfigurationError, Settings
from tests.servers import (
    PATIENCE,
    ServerProcess,
    ask,
    await_true,
    by_module,
    by_waitress,
    free_port,
)

PRODUCT = {"name": "Wireless Mouse", "price": 2999, "stock": 50}
CREATE = "/commands/shop.product.create"


def start(role: str, nats: str, directory: Path) -> ServerProcess:
    """A process of that role, on the database of a directory."""
    port = free_port()
    return ServerProcess(
        by_module(f"127.0.0.1:{port}"),
        port,
        directory,
        SHOP_ROLE=role,
        SHOP_EVENT_STORE=f"sqlite:///{directory / 'shop.db'}",
        SHOP_EVENT_BUS=f"nats://{nats}?prefix=t{directory.name.replace('_', '-')}",
    )


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_are_restarted_under_load_and_every_command_is_done_once(
    number: signal.Signals, nats: str, tmp_path: Path
) -> None:
    acknowledged: list[UUID] = []
    failures: list[object] = []
    over = threading.Event()

    def create() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
        while not over.is_set():
            reply = ask(connection, "POST", CREATE, PRODUCT)
            if reply.status != 201:
                failures.append(reply)
                return
            acknowledged.append(UUID(reply.json()["aggregate_id"]))
        connection.close()

    def progress(more: int) -> Callable[[], object]:
        goal = len(acknowledged) + more
        return lambda: len(acknowledged) >= goal or failures

    with start("web", nats, tmp_path) as web:
        web.await_ready()
        first, second = start("worker", nats, tmp_path), start("worker", nats, tmp_path)
        with first, second:
            await_true(lambda: "carrying out commands" in first.log)
            await_true(lambda: "carrying out commands" in second.log)
            before = len(created_products(tmp_path))
            clients = [threading.Thread(target=create) for _ in range(4)]
            for client in clients:
                client.start()
            await_true(progress(50))
            first.signal(number)
            first.await_exit()
            await_true(progress(50))
            with start("worker", nats, tmp_path) as third:
                await_true(lambda: "carrying out commands" in third.log)
                second.signal(number)
                second.await_exit()
                await_true(progress(50))
                over.set()
                for client in clients:
                    client.join(PATIENCE)
    assert failures == []
    created = created_products(tmp_path)
    assert before == 0
    assert len(created) == len(set(created))
    assert set(acknowledged) == set(created)
