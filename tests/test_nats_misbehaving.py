"""A NATS that is away, silent, or refuses: the shop does its work, says so, and catches up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.domain.product import CreateProduct
from shop.eventsourcing import Command
from shop.runtime import Shop
from shop.web import create_app
from tests.conftest import Eventually
from tests.real.nats import NatsServer
from tests.real.process import free_port

SCHEMES = ["nats", "nats+jetstream"]


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


def settings(tmp_path: Path, bus: str) -> Settings:
    store = f"sqlite:///{tmp_path / 'shop.db'}"
    return Settings(event_store=store, model_store=store, event_bus=bus)


def create(shop: Shop, count: int = 1) -> float:
    """Create products; how many seconds the slowest took."""
    slowest = 0.0
    for _ in range(count):
        began = time.monotonic()
        shop.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 50)))
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def readiness(shop: Shop) -> tuple[int, str]:
    answer = create_app(shop).test_client().get("/readyz")
    return answer.status_code, " ".join(answer.json["degraded"])  # type: ignore[index]  # it is


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_is_away_at_the_start_slows_nothing_down_and_is_caught_up_with(
    scheme: str, tmp_path: Path, eventually: Eventually
) -> None:
    server = NatsServer()
    with bootstrap(settings(tmp_path, f"{scheme}://{server.address}")) as shop:
        assert create(shop, 20) < 1
        assert shop.wait_for(shop.store.head(), 5)
        eventually(lambda: readiness(shop)[0] == 200)
        assert "no connection to" in readiness(shop)[1]
        with server:
            eventually(lambda: readiness(shop) == (200, ""))
            if scheme == "nats+jetstream":
                eventually(
                    lambda: shop.bus_statuses()[1].figures["relay_position"] == shop.store.head()
                )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_killed_paused_and_started_again_under_load_slows_nothing_down(
    server: NatsServer, scheme: str, tmp_path: Path, eventually: Eventually
) -> None:
    with bootstrap(settings(tmp_path, f"{scheme}://{server.address}")) as shop:
        eventually(lambda: readiness(shop) == (200, ""))
        ending = threading.Event()
        slowest = [0.0]

        def load() -> None:
            while not ending.is_set():
                slowest[0] = max(slowest[0], create(shop))

        loading = threading.Thread(target=load)
        loading.start()
        try:
            server.pause()
            ending.wait(0.3)
            server.resume()
            server.kill()
            eventually(lambda: "no connection to" in readiness(shop)[1])
            assert readiness(shop)[0] == 200
            server.start()
            eventually(lambda: readiness(shop) == (200, ""))
        finally:
            ending.set()
            loading.join()
        assert slowest[0] < 2
        assert shop.wait_for(shop.store.head(), 5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_shop_stops_cleanly_with_the_server_gone_or_silent(
    server: NatsServer, scheme: str, tmp_path: Path, eventually: Eventually
) -> None:
    shop = bootstrap(settings(tmp_path, f"{scheme}://{server.address}"))
    with shop:
        eventually(lambda: readiness(shop) == (200, ""))
        server.pause()
        create(shop, 50)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    server.resume()


def test_a_port_that_says_nothing_is_told_and_slows_nothing_down(
    silent: int, tmp_path: Path, eventually: Eventually
) -> None:
    with bootstrap(settings(tmp_path, f"nats://127.0.0.1:{silent}?timeout=0.2")) as shop:
        assert create(shop, 20) < 1
        eventually(lambda: "no answer within 0.2 s" in readiness(shop)[1])
        began = time.monotonic()
    assert time.monotonic() - began < 10


def test_what_waits_for_a_server_is_bounded(tmp_path: Path) -> None:
    bus = f"nats://127.0.0.1:{free_port()}"
    with bootstrap(settings(tmp_path, bus)) as shop:
        shop.commands.dispatch(Command.new(CreateProduct("x" * 100, 1, 1)))
        events = list(shop.store.read())
        for _ in range(10_000):
            shop.bus.publish(events)
        figures = shop.bus.status().figures
        assert figures["dropped_total"] > 0
        assert figures["outbox_bytes"] <= 4 * 1024 * 1024
