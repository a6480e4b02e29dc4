"""Workflows: what a look at the timers costs, and how fast those that are due are worked off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from threading import Event as Flag
from time import perf_counter, time
from uuid import UUID

import msgspec

from bench.measure import Bench, Row, as_served, rate_of_threads
from shop.backends.memory import MemoryEventBus
from shop.backends.sqlite import Database, SqliteEventStore, SqliteModelStore
from shop.bootstrap import MODULES, event_registry
from shop.domain.customer import RegisterCustomer
from shop.domain.order import CancelOrder, PlaceOrder, RequestedItem
from shop.domain.payment_workflow import Payment, PaymentWorkflow
from shop.domain.product import CreateProduct
from shop.eventsourcing import (
    Aggregates,
    Command,
    CommandBus,
    CommandPayload,
    EventStore,
    Filter,
    ModelReader,
    ProjectionRunner,
    PublishingStore,
    WorkflowEntry,
    WorkflowList,
    WorkflowRunner,
    new_id,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel
from shop.eventsourcing.testing import Clock, ClockStore
from shop.eventsourcing.workflows.models import Timer
from shop.eventsourcing.workflows.timers import Timers

_FEW, _MANY = 1_000, 100_000
_LOOKS = 200
_DUE = 10_000
_ORDERS_OF_A_PRODUCT = 10
_THREADS = 8
_COMMIT = 5_000
_TIMEOUT = 300.0
_DAY = 24 * 3600.0


def run(bench: Bench) -> Iterator[Row]:
    """On SQLite."""
    with _Rig(bench.directory / "few.db") as few, _Rig(bench.directory / "many.db") as many:
        few.set_timers(_FEW)
        many.set_timers(_MANY)
        looks = bench.in_turns({"many": lambda: _look(many), "few": lambda: _look(few)})
    yield Row(
        theme="workflow",
        what=f"a look at {_MANY:,} timers that are set; raw: at {_FEW:,}",
        unit="µs",
        ours=looks.typical("many"),
        raw=looks.typical("few"),
        ratio=looks.ratio("many", "few"),
        target="≤ 1.5",
        met=looks.ratio("many", "few") <= 1.5,
    )
    worked_off, commands = as_served(lambda: _work_off(bench))()
    yield Row(
        theme="workflow",
        what=f"{_DUE:,} orders cancelled at one deadline; raw: by {_THREADS} threads",
        unit="orders/s",
        ours=worked_off,
        raw=commands,
        ratio=worked_off / commands,
    )


def _look(rig: _Rig) -> float:
    """Microseconds that a look at the timers takes when none is due."""
    timers = Timers(rig.workflow, rig.events, rig.models, rig.aggregates)
    seconds = []
    for _ in range(_LOOKS):
        began = perf_counter()
        look = timers.fire()
        seconds.append(perf_counter() - began)
        if look.due is None or look.fired:
            raise RuntimeError(f"timers are set, and none is due: {look}")
    return median(seconds) * 1e6


def _work_off(bench: Bench) -> tuple[float, float]:
    """Orders cancelled a second: by the workflow at their deadline, and by threads."""
    with _Rig(bench.directory / "due.db") as rig:
        bench.say(f"workflow: placing {_DUE:,} orders")
        orders = rig.place(_DUE)
        others = rig.place(_DUE // 5)
        shares = [
            [Command.new(CancelOrder("not wanted"), id) for id in others[n::_THREADS]]
            for n in range(_THREADS)
        ]
        commands = rate_of_threads(rig.commands.dispatch, shares, seconds=_TIMEOUT)
        rig.listing.start()
        rig.runner.start()
        rig.settle()
        if rig.count("running") != _DUE:
            raise RuntimeError("not every order has its workflow")
        bench.say(f"workflow: {_DUE:,} orders are due")
        rig.clock.advance(_DAY)
        began = perf_counter()
        pause = Flag()
        while rig.runner.status().timers.fired < _DUE:
            pause.wait(0.05)
        rig.settle()
        seconds = perf_counter() - began
        if rig.count("compensated") != len(orders):
            raise RuntimeError("not every order was cancelled")
        return _DUE / seconds, commands


class _Rig:
    """The payment workflow on a file of its own."""

    def __init__(self, path: Path) -> None:
        database = Database(path)
        self._bus = MemoryEventBus()
        self.clock = Clock(goes_on=True)
        store = SqliteEventStore(database, event_registry(), owns_database=True)
        self.events: EventStore = PublishingStore(ClockStore(store, self.clock), self._bus)
        self.models = SqliteModelStore(database)
        self.aggregates = Aggregates(self.events)
        self.commands = CommandBus(self.events, self.aggregates, MODULES)
        self.workflow = PaymentWorkflow(deadline=3600.0)
        self.listing = ProjectionRunner(WorkflowList(), self.events, self.models, self._bus)
        self.runner = WorkflowRunner(
            self.workflow,
            events=self.events,
            models=self.models,
            bus=self._bus,
            aggregates=self.aggregates,
            commands=self.commands,
            listing=self.listing,
        )

    def __enter__(self) -> _Rig:
        return self

    def __exit__(self, *exception: object) -> None:
        self.runner.close(_TIMEOUT)
        self.listing.close(_TIMEOUT)
        self._bus.close()
        self.events.close()

    def wait_for_models(self) -> None:
        if not self.listing.wait_for(self.events.head(), _TIMEOUT):
            raise TimeoutError(f"the models did not catch up: {self.listing.status()}")

    def set_timers(self, count: int) -> None:
        """Have the models tell of so many timers, due one after the other from tomorrow on."""
        collection = Collection.of(WorkflowList.name, Timer)
        self.models.prepare(WorkflowList().collections)
        checkpoint = Checkpoint(WorkflowList.name, 1, 0, "", self.events.info().identity)
        self.models.commit(None, checkpoint)
        tomorrow = int((time() + _DAY) * 1e6)
        for first in range(0, count, _COMMIT):
            numbers = range(first, min(count, first + _COMMIT))
            timers = [
                Timer(Payment.kind, new_id(), "deadline", tomorrow + n, new_id(), n + 1, None)
                for n in numbers
            ]
            self.models.commit(
                checkpoint,
                checkpoint,
                [
                    StoredModel(
                        collection.name, f"{t.id}", t.due, 1, msgspec.json.encode(t).decode()
                    )
                    for t in timers
                ],
            )

    def settle(self) -> None:
        """Wait until there is nothing left to do."""
        head = -1
        while head != self.events.head():
            head = self.events.head()
            if not self.runner.wait_for(head, _TIMEOUT):
                raise TimeoutError(f"not worked off: {self.runner.status()}")
            self.wait_for_models()

    def count(self, status: str) -> int:
        """How many workflows have a status, as far as the models know."""
        filter = Filter(equal={"status": status}, limit=_DUE)
        return len(ModelReader(self.models, WorkflowList.name).find(WorkflowEntry, filter).value)

    def place(self, count: int) -> Sequence[UUID]:
        """The ids of so many new orders."""
        customer, orders = new_id(), [new_id() for _ in range(count)]
        self._do(RegisterCustomer("Ada", f"{customer}@example.com"), customer)
        products = [new_id() for _ in range(count // _ORDERS_OF_A_PRODUCT)]
        for product in products:
            self._do(CreateProduct("Mouse", 2_999, 100), product)
        for order, product in zip(orders, cycle(products), strict=False):
            self._do(PlaceOrder(customer, (RequestedItem(product, 1),)), order)
        return orders

    def _do(self, payload: CommandPayload, id: UUID) -> None:
        self.commands.dispatch(Command.new(payload, id))
