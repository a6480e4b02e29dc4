"""A shop in several processes, whose customers go on while one after the other is struck down."""

from __future__ import annotations

import http.client
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shop.bootstrap import event_registry, open_event_store
from shop.buses import open_durable_subscription
from shop.domain.order import OrderCancelled, OrderPaid, OrderPlaced
from shop.domain.product import ProductCreated, StockAdjusted
from shop.eventsourcing import AggregateRef, Event, EventData, Phase
from shop.eventsourcing.workflows.instance import PhaseChanged
from tests.real.databases import DATABASE_SERVERS, DatabaseServer
from tests.real.nats import NatsServer
from tests.real.process import free_port
from tests.servers import (
    PATIENCE,
    Reply,
    ServerProcess,
    ask,
    by_module,
    environment,
)
from tests.waiting import await_true

ROLES = ("web", "web", "worker", "worker", "all")
SHOPPERS = 4
DEADLINE = 2.0


class Town:
    """Servers and processes of a shop, and what happens to them."""

    def __init__(self, database: DatabaseServer, directory: Path) -> None:
        self.database = database
        self.nats = NatsServer()
        self.store = database.url("chaos", "timeout=2")
        self._directory = directory
        self._ports = [free_port() for _ in ROLES]
        self._processes: list[ServerProcess] = []

    @property
    def bus(self) -> str:
        return f"nats+jetstream://{self.nats.address}"

    @property
    def web(self) -> list[ServerProcess]:
        return [p for role, p in zip(ROLES, self._processes, strict=True) if role != "worker"]

    def __enter__(self) -> Town:
        with ExitStack() as started:
            started.enter_context(self.nats)
            self._processes = [
                started.enter_context(self._start(number)) for number in range(len(ROLES))
            ]
            for process in self.web:
                process.await_ready()
            self._started = started.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._started.close()

    def _start(self, number: int) -> ServerProcess:
        port = self._ports[number]
        return ServerProcess(
            by_module(f"127.0.0.1:{port}"),
            port,
            self._directory,
            SHOP_ROLE=ROLES[number],
            SHOP_EVENT_STORE=self.store,
            SHOP_EVENT_BUS=self.bus,
            SHOP_PAYMENT_DEADLINE=str(DEADLINE),
        )

    def replace(self, number: int, how: signal.Signals) -> None:
        """End a process and start another in its place."""
        process = self._processes[number]
        process.signal(how)
        code = process.await_exit()
        assert code == 0 or how == signal.SIGKILL, process.log
        told = len(process.log)  # another one goes on with the same log
        self._processes[number] = process = self._started.enter_context(self._start(number))
        await_true(lambda: re.search("carrying out|Serving on", process.log[told:]) is not None)

    def blows(self, dice: random.Random) -> list[tuple[str, Callable[[], object]]]:
        """What befalls the town, each with its name."""

        def killed(server: DatabaseServer | NatsServer) -> Callable[[], object]:
            return lambda: (server.kill(), server.start())

        def hangs(server: DatabaseServer | NatsServer) -> Callable[[], object]:
            return lambda: (server.pause(), threading.Event().wait(1), server.resume())

        def replaced(number: int, how: signal.Signals) -> Callable[[], object]:
            return lambda: self.replace(number, how)

        servers = [
            ("the database is killed", killed(self.database)),
            ("the database hangs", hangs(self.database)),
            ("NATS is killed", killed(self.nats)),
            ("NATS hangs", hangs(self.nats)),
        ]
        processes = [
            (f"{role} {number} gets {how.name}", replaced(number, how))
            for how in (signal.SIGKILL, signal.SIGTERM)
            for number, role in enumerate(ROLES)
        ]
        blows = servers + dice.sample(processes, 5)
        dice.shuffle(blows)
        return blows

    def stop(self) -> None:
        """Stop all processes as a person would."""
        for process in self._processes:
            process.signal(signal.SIGTERM)
        assert [process.await_exit() for process in self._processes] == [0] * len(ROLES)


class Shopper(threading.Thread):
    """Orders, pays and cancels until told to stop; repeats whatever is not answered for certain."""

    def __init__(self, town: Town, number: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._town = town
        self._random = random.Random(number)
        self._over = over
        self.done: list[str] = []
        """Ids of the commands that were acknowledged."""

    def run(self) -> None:
        product = self._do("shop.product.create", {"name": "Mouse", "price": 100, "stock": 20})
        person = {"name": "Ada", "email": f"{uuid4()}@example.com"}
        customer = self._do("shop.customer.register", person)
        items = [{"product_id": product, "quantity": 1}]
        orders: list[str] = []
        while not self._over.is_set():
            placed = self._do("shop.order.place", {"customer_id": customer, "items": items})
            if placed is None:  # sold out
                self._do(f"shop.product.adjust_stock/{product}", {"quantity": 9, "reason": "new"})
                continue
            orders = [*orders[-5:], placed]
            order = self._random.choice(orders)
            if self._random.random() < 0.5:
                self._do(f"shop.order.pay/{order}", {"amount": 100})
            elif self._random.random() < 0.5:
                self._do(f"shop.order.cancel/{order}", {"reason": "changed my mind"})

    def _do(self, command: str, payload: Mapping[str, object]) -> str | None:
        """Have a command carried out; the aggregate's id, or nothing where it was refused."""
        key = str(uuid4())
        while True:
            with suppress(OSError, http.client.HTTPException):
                reply = self._ask(command, payload, key)
                if reply.status in {200, 201}:
                    self.done.append(key)
                    aggregate_id: str = reply.json()["aggregate_id"]
                    return aggregate_id
                if reply.status < 500:
                    assert reply.status == 409, reply
                    return None
            if self._over.wait(0.02) and not any(map(is_up, self._town.web)):
                return None

    def _ask(self, command: str, payload: Mapping[str, object], key: str) -> Reply:
        web = self._random.choice(self._town.web)
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=PATIENCE)
        try:
            return ask(connection, "POST", f"/commands/{command}", payload, Idempotency_Key=key)
        finally:
            connection.close()


def is_up(process: ServerProcess) -> bool:
    return process.process.poll() is None


@pytest.fixture(params=DATABASE_SERVERS)
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    with DATABASE_SERVERS[request.param]() as database, Town(database, tmp_path) as town:
        yield town


def test_whatever_is_struck_down_nothing_is_lost_or_done_twice(
    town: Town, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    over = threading.Event()
    shoppers = [Shopper(town, number, over) for number in range(SHOPPERS)]
    for shopper in shoppers:
        shopper.start()

    def goes_on() -> None:
        """Wait until every shopper got on."""
        before = [len(shopper.done) for shopper in shoppers]
        await_true(lambda: all(len(s.done) > n + 3 for s, n in zip(shoppers, before, strict=True)))

    goes_on()
    for name, strike in town.blows(random.Random(request.node.name)):
        strike()
        try:
            goes_on()
        except AssertionError:
            pytest.fail(f"{name}, and no more commands are carried out")
    over.set()
    for shopper in shoppers:
        shopper.join(PATIENCE)
    with open_event_store(town.store, event_registry()) as store:
        await_true(lambda: are_over(list(store.read())))
        log = list(store.read())
    assert streamed(town.bus, len(log)) == [(event.position, event.id) for event in log]
    town.stop()
    check_log(log, {key for shopper in shoppers for key in shopper.done})
    subprocess.run(
        [sys.executable, "-m", "shop", "verify"],
        env=environment(SHOP_EVENT_STORE=town.store),
        cwd=tmp_path,
        check=True,
    )


def are_over(log: list[Event[EventData]]) -> bool:
    """Whether the workflows of all orders have ended: then nothing more happens by itself."""
    placed = {event.aggregate.id for event in log if isinstance(event.data, OrderPlaced)}
    ended = {
        event.aggregate.id
        for event in log
        if isinstance(event.data, PhaseChanged)
        and event.data.phase in {Phase.COMPLETED, Phase.COMPENSATED}
    }
    return placed == ended


def check_log(log: list[Event[EventData]], acknowledged: set[str]) -> None:
    """Everything acknowledged is in the log once, and what is in there makes sense."""
    assert [event.position for event in log] == list(range(1, len(log) + 1))
    positions: defaultdict[UUID | None, list[int]] = defaultdict(list)
    versions: Counter[AggregateRef] = Counter()
    stock: Counter[UUID] = Counter()
    state: dict[UUID, str] = {}
    for event in log:
        versions[event.aggregate] += 1
        assert event.version == versions[event.aggregate]
        positions[event.metadata.command_id].append(event.position)
        id = event.aggregate.id
        match event.data:
            case ProductCreated(stock=first):
                stock[id] += first
            case StockAdjusted(quantity=quantity):
                stock[id] += quantity
                assert stock[id] >= 0
            case OrderPlaced():
                state[id] = "open"
            case OrderPaid() | OrderCancelled():
                assert state[id] == "open"
                state[id] = event.name
    assert acknowledged <= {str(id) for id in positions}
    for id_, places in positions.items():
        if id_ is not None:
            assert places == list(range(places[0], places[-1] + 1)), "one commit"
    assert "open" not in state.values(), "the deadline of each is over"


def streamed(bus: str, size: int) -> list[tuple[int, UUID]]:
    """Positions and ids of the events of the stream, once that many are there."""
    found: list[tuple[int, UUID]] = []
    with open_durable_subscription(bus, event_registry(), "checker") as subscription:
        while deliveries := subscription.take(PATIENCE if len(found) < size else 0.5, limit=500):
            subscription.acknowledge(deliveries)
            found += [(d.event.position, d.event.id) for d in deliveries]
    return found
