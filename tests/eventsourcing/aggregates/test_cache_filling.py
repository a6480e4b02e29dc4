"""What commands miss in the cache is loaded together: whatever happens then, it only saves time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import pytest

from shop.backends.memory import MemoryEventStore
from shop.eventsourcing import (
    Aggregate,
    AggregateRef,
    Aggregates,
    Command,
    CommandBus,
    CommandPayload,
    CommandRejected,
    CommandResult,
    Event,
    EventData,
    EventStore,
    Module,
    Query,
    Registry,
    StoreUnavailableError,
    UnitOfWork,
    aggregate,
    applies,
    command,
    event,
    new_id,
)
from shop.eventsourcing.commands.module import Handler
from shop.stores import open_backend
from tests.clockwork import Stage
from tests.eventsourcing.bank import (
    BANK,
    Deposit,
    LimitSet,
    Open,
    Transfer,
    account,
    booked,
)
from tests.eventsourcing.counting import CountingStore
from tests.eventsourcing.reminders import MODULES, Reminders
from tests.notebook import AnyEvent

MANY = 100


@event("depot.box.filled")
class Filled(EventData, frozen=True):
    size: int


@event("depot.box.labelled")
class Labelled(EventData, frozen=True):
    owner: UUID


@aggregate("depot.box")
class Box(Aggregate):
    share: float = 0
    owner: UUID | None = None

    @applies(Filled)
    def _filled(self, data: Filled) -> None:
        self.share = 1 / data.size

    @applies(Labelled)
    def _labelled(self, data: Labelled) -> None:
        self.owner = data.owner


@command("depot.box.fill", creates=True)
class Fill(CommandPayload, frozen=True):
    size: int


class Depot:
    """Boxes in a store that counts, and a bus whose cache is empty. Counts its handler's runs."""

    def __init__(self, handler: Handler, *, store: EventStore | None = None) -> None:
        self.runs = 0
        self.store = CountingStore(store or MemoryEventStore(Registry([Filled, Labelled])))
        self.aggregates = Aggregates(self.store)
        self._handler = handler
        self.bus = CommandBus(self.store, self.aggregates, [Module((Box,), {Fill: self._run})])

    def _run(self, payload: Fill, id: UUID, work: UnitOfWork) -> None:
        self.runs += 1
        self._handler(payload, id, work)


class Bank:
    """A bank whose store counts, with an empty cache."""

    def __init__(self, handlers: Mapping[type[CommandPayload], Handler] = BANK.handlers) -> None:
        self.store = CountingStore(MemoryEventStore(Registry(BANK.events)))
        module = Module(BANK.aggregates, handlers)
        self.bus = CommandBus(self.store, Aggregates(self.store), [module])

    def transfers(self, hub: AggregateRef, refs: list[AggregateRef]) -> list[Command[Any]]:
        return [Command.new(Transfer(hub.id, 1), ref.id) for ref in refs]


def fill(payload: Fill, id: UUID, work: UnitOfWork) -> None:
    work.find(Box, id).record(Filled(payload.size))


class TestWhatCannotBeLoaded:
    def test_an_applier_that_fails_keeps_no_other_back(self) -> None:
        depot = Depot(fill)
        bad, good = uuid4(), uuid4()
        depot.store.append([Event.new(AggregateRef("depot.box", bad), version=1, data=Filled(0))])

        outcomes = depot.bus.dispatch_each([Command.new(Fill(1), good), Command.new(Fill(1), bad)])

        assert [type(outcome) for outcome in outcomes] == [CommandResult, ZeroDivisionError]

    def test_a_handler_may_find_by_what_another_aggregate_holds(self, tmp_path: Path) -> None:
        labelled, owner = uuid4(), uuid4()

        def fill_for_owner(payload: Fill, id: UUID, work: UnitOfWork) -> None:
            whose: Any = work.find(Box, labelled).owner  # None where it is taken not to exist
            if not work.find(Box, whose).exists:
                raise CommandRejected("nobody", "")
            work.find(Box, id).record(Filled(payload.size))

        with closing(open_backend(f"sqlite:///{tmp_path / 'x.db'}")) as backend:
            depot = Depot(fill_for_owner, store=backend.events(Registry([Filled, Labelled])))
            for box, data in ((owner, Filled(1)), (labelled, Labelled(owner))):
                ref = AggregateRef("depot.box", box)
                depot.store.append([Event.new(ref, version=1, data=data)])

            [outcome] = depot.bus.dispatch_each([Command.new(Fill(1))])

        assert isinstance(outcome, CommandResult)

    def test_a_handler_that_relies_on_what_always_exists_ends(self) -> None:
        def month(number: int) -> UUID:
            return uuid5(NAMESPACE_OID, str(number))

        def fill_latest(payload: Fill, id: UUID, work: UnitOfWork) -> None:
            number, found = payload.size, work.find(Box, id)
            while not found.exists:  # the first one was always filled
                number -= 1
                found = work.find(Box, month(number))
            found.record(Filled(1))

        depot = Depot(fill_latest)
        first = AggregateRef("depot.box", month(1))
        depot.store.append([Event.new(first, version=1, data=Filled(1))])

        [outcome] = depot.bus.dispatch_each([Command.new(Fill(12), month(12))])

        assert isinstance(outcome, CommandResult)
        assert [event.aggregate for event in outcome.events] == [first]


class TestAStoreThatCannotBeReached:
    """To wait for it takes seconds each time."""

    def test_a_batch_asks_once(self) -> None:
        bank = Bank()
        gone = Gone(bank.store.store)
        bank.store.store = gone

        outcomes = bank.bus.dispatch_each([Command.new(Deposit(1), uuid4()) for _ in range(MANY)])

        assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}
        assert (len(outcomes), bank.store.reads) == (MANY, 1)

    def test_a_workflow_asks_once(self) -> None:
        with ExitStack() as opened:
            stage = Stage("memory://", MODULES, opened)
            first = stage.node(Reminders())
            for _ in range(5):
                first.do(Open("Ada"), uuid4())
            node = stage.node(Reminders())
            gone = Gone(node.events)
            node.aggregates.events = gone

            with pytest.raises(StoreUnavailableError):
                node.react()

        assert gone.asked == 1


class Gone(CountingStore):
    """A store that cannot be read."""

    asked = 0

    def read(self, query: Query = Query()) -> Iterator[AnyEvent]:
        self.asked += 1
        raise StoreUnavailableError("gone")


class TestWhatItCosts:
    """At most some times what it costs without: a look in vain is not repeated for each command."""

    def test_where_handlers_make_aggregates_under_new_ids(self) -> None:
        box = uuid4()

        def split(payload: Fill, id: UUID, work: UnitOfWork) -> None:
            work.find(Box, id).record(Filled(payload.size))
            work.find(Box, new_id()).record(Filled(payload.size))

        depot = Depot(split)
        depot.bus.dispatch_each([Command.new(Fill(1), box) for _ in range(MANY)])

        assert depot.runs <= 10 * MANY

    def test_where_one_cannot_be_read(self) -> None:
        bank = Bank()
        hub, bad, *refs = (account() for _ in range(MANY + 2))
        for ref in (hub, *refs):
            bank.store.append(booked(ref, *[1] * 20))
        bank.store.append([Event.new(bad, version=1, data=LimitSet(5))])

        commands = [*bank.transfers(hub, refs), Command.new(Deposit(1), bad.id)]
        outcomes = bank.bus.dispatch_each(commands)

        assert [type(outcome) for outcome in outcomes[:-1]] == [CommandResult] * MANY
        assert bank.store.events_read() <= 6 * 21 * MANY

    def test_where_all_have_many_events(self) -> None:
        bank = Bank()
        hub, *refs = (account() for _ in range(MANY + 1))
        for ref in (hub, *refs):
            bank.store.append(booked(ref, *[1] * 150))

        outcomes = bank.bus.dispatch_each(bank.transfers(hub, refs))

        assert [type(outcome) for outcome in outcomes] == [CommandResult] * MANY
        assert bank.store.events_read() <= 6 * 151 * MANY

    def test_where_none_exists(self) -> None:
        runs = 0

        def deposit(payload: Deposit, id: UUID, work: UnitOfWork) -> None:
            nonlocal runs
            runs += 1
            BANK.handlers[Deposit](payload, id, work)

        bank, nobody = Bank({**BANK.handlers, Deposit: deposit}), uuid4()
        bank.bus.dispatch_each([Command.new(Deposit(1), nobody) for _ in range(MANY)])

        assert runs <= 10 * MANY
