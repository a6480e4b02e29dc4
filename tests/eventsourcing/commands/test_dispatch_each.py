"""Several commands together: as if they were dispatched one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shop.eventsourcing import (
    Aggregates,
    Command,
    CommandBus,
    CommandIdReusedError,
    CommandPayload,
    CommandRejected,
    CommandResult,
    DelegatingStore,
    Event,
    EventData,
    EventSourcingError,
    NewCommit,
    Query,
)
from shop.eventsourcing.stores.store import Commit
from tests.eventsourcing.bank import (
    BANK,
    Deposit,
    Deposited,
    LimitSet,
    Open,
    Opened,
    Transfer,
    Withdraw,
    Withdrawn,
    account,
    booked,
)
from tests.eventsourcing.conftest import Stores
from tests.eventsourcing.counting import CountingStore

ACCOUNTS = range(3)
amounts = st.integers(0, 9)


class Wish(NamedTuple):
    """A command, but for the ids of accounts, which are new in every run."""

    account: int
    payload: Open | Deposit | Withdraw | int
    expected_version: int | None
    repeated: int | None
    """The number of a command that this one has the id of."""

    def command(self, accounts: Sequence[UUID], ids: Sequence[UUID]) -> Command[CommandPayload]:
        payload: CommandPayload = (
            Transfer(accounts[(self.account + 1) % 3], self.payload)
            if isinstance(self.payload, int)
            else self.payload
        )
        id = uuid4() if self.repeated is None else ids[self.repeated]
        return Command.new(
            payload, accounts[self.account], id=id, expected_version=self.expected_version
        )


wishes = st.lists(
    st.builds(
        Wish,
        account=st.sampled_from(ACCOUNTS),
        payload=st.just(Open("Ada"))
        | st.builds(Deposit, amounts)
        | st.builds(Withdraw, amounts)
        | amounts,
        expected_version=st.none() | st.none() | st.integers(0, 4),
        repeated=st.none() | st.none() | st.integers(0, 3),
    ),
    max_size=12,
)


class Bank:
    """One bank's accounts, with a bus that remembers them and one that a stranger uses."""

    def __init__(self, stores: Stores, ids: Sequence[UUID]) -> None:
        self._events = stores.events
        self._ids = ids
        self.accounts = [account().id for _ in ACCOUNTS]
        self.bus, self.stranger = (
            CommandBus(self._events, Aggregates(self._events), [BANK]) for _ in range(2)
        )

    def commands(self, wishes: Sequence[Wish]) -> list[Command[CommandPayload]]:
        return [wish.command(self.accounts, self._ids) for wish in wishes]

    def streams(self) -> list[list[EventData]]:
        """What happened to each account."""
        return [
            [event.data for event in self._events.read(Query(aggregate_ids=[id]))]
            for id in self.accounts
        ]


def told(outcome: CommandResult | Exception) -> object:
    if isinstance(outcome, Exception):
        return type(outcome)
    return outcome.version, outcome.replayed, [event.data for event in outcome.events]


@given(before=wishes, between=wishes, wanted=wishes)
@example(  # the first of two with one id is forestalled by a stranger
    before=[Wish(0, Open("Ada"), None, None)],
    between=[Wish(0, Deposit(1), None, None)],
    wanted=[Wish(0, Deposit(0), None, 2), Wish(1, Open("Ada"), None, 2)],
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_outcomes_are_those_of_one_after_the_other(
    stores: Stores, before: list[Wish], between: list[Wish], wanted: list[Wish]
) -> None:
    together = Bank(stores, [uuid4() for _ in range(4)])
    in_turn = Bank(Stores.at("memory://"), [uuid4() for _ in range(4)])
    for wishes, stranger in ((before, False), (between, True), (wanted, False)):
        expected = [
            outcome
            for command in in_turn.commands(wishes)
            for outcome in in_turn.stranger.dispatch_each([command])
        ]
        bus = together.stranger if stranger else together.bus
        outcomes = bus.dispatch_each(together.commands(wishes))
        assert [told(outcome) for outcome in outcomes] == [told(outcome) for outcome in expected]
    assert together.streams() == in_turn.streams()


def test_none_rests_on_one_before_it_that_a_stranger_forestalled(stores: Stores) -> None:
    bank = Bank(stores, [])
    ada = bank.accounts[0]
    bank.bus.dispatch_each([Command.new(Open("Ada"), ada), Command.new(Deposit(5), ada)])
    bank.stranger.dispatch(Command.new(Withdraw(5), ada))

    outcomes = bank.bus.dispatch_each(
        [
            Command.new(Deposit(9), ada),
            Command.new(Withdraw(14), ada),
        ]
    )

    assert [told(outcome) for outcome in outcomes] == [(4, False, [Deposited(9)]), CommandRejected]
    assert bank.streams()[0][2:] == [Withdrawn(5), Deposited(9)]


class Counting(DelegatingStore):
    """Tells how many appends were done, and how many commits they were to make."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(stores.events)
        self.sizes: list[int] = []

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        self.sizes.append(len(commits))
        return super().append_each(commits)


def test_one_append_does_for_many(memory_stores: Stores) -> None:
    store = Counting(memory_stores)
    bus = CommandBus(store, Aggregates(store), [BANK])
    opened = bus.dispatch_each([Command.new(Open("Ada")) for _ in range(100)])
    accounts = [outcome.aggregate.id for outcome in opened if isinstance(outcome, CommandResult)]
    first = accounts[0]

    outcomes = bus.dispatch_each([Command.new(Deposit(1), id) for id in (*accounts, first)])

    assert [o.version for o in outcomes if isinstance(o, CommandResult)] == [2] * 100 + [3]
    assert store.sizes == [100, 100, 1]


def test_a_few_looks_do_for_many(stores: Stores) -> None:
    accounts = [account().id for _ in range(100)]
    first = CommandBus(stores.events, Aggregates(stores.events), [BANK])
    first.dispatch_each([Command.new(Open("Ada"), id) for id in accounts[:50]])
    store = CountingStore(stores.events)
    bus = CommandBus(store, Aggregates(store), [BANK])

    outcomes = bus.dispatch_each(
        [
            *(Command.new(Deposit(1), id) for id in accounts[:50]),
            *(Command.new(Open("Bob"), id) for id in accounts[50:]),
        ]
    )

    assert [o.version for o in outcomes if isinstance(o, CommandResult)] == [2] * 50 + [1] * 50
    assert (store.reads, store.events_read()) == (1, 50)


def test_what_handlers_want_besides_is_looked_for_together(stores: Stores) -> None:
    accounts = [account() for _ in range(60)]
    for ref in accounts:
        stores.events.append(booked(ref, 7))
    store = CountingStore(stores.events)
    bus = CommandBus(store, Aggregates(store), [BANK])
    givers, takers = accounts[:30], accounts[30:]

    outcomes = bus.dispatch_each(
        [
            Command.new(Transfer(taker.id, 7), giver.id)
            for giver, taker in zip(givers, takers, strict=True)
        ]
    )

    assert [o.version for o in outcomes if isinstance(o, CommandResult)] == [3] * 30
    assert (store.reads, store.events_read()) == (2, 120)


@pytest.mark.parametrize("ids", ["chosen", "made"])
def test_commands_that_come_again_are_recalled_together(stores: Stores, ids: str) -> None:
    accounts = [account().id for _ in range(40)]
    batch: list[Command[CommandPayload]] = [
        Command.new(Open("Ada"), id if ids == "chosen" else None) for id in accounts
    ]
    opened = CommandBus(stores.events, Aggregates(stores.events), [BANK]).dispatch_each(batch)
    refs = [outcome.aggregate for outcome in opened if isinstance(outcome, CommandResult)]
    batch += [Command.new(Deposit(amount), ref.id) for ref in refs for amount in (1, 0)]
    first = CommandBus(stores.events, Aggregates(stores.events), [BANK]).dispatch_each(batch)
    store = CountingStore(stores.events)

    again = CommandBus(store, Aggregates(store), [BANK]).dispatch_each(batch)

    assert again == [
        msgspec.structs.replace(outcome, replayed=True)
        for outcome in first
        if isinstance(outcome, CommandResult)
    ]
    assert len(again) == 120
    assert store.reads <= 100  # 40 of them for the versions of what a deposit of 0 did not change


def test_a_command_that_comes_again_with_other_content_is_told_from_those_around(
    stores: Stores,
) -> None:
    bus = CommandBus(stores.events, Aggregates(stores.events), [BANK])
    batch = [Command.new(Open("Ada"), account().id) for _ in range(3)]
    bus.dispatch_each(batch)
    other = msgspec.structs.replace(batch[1], payload=Open("Bob"))

    outcomes = bus.dispatch_each([batch[0], other, batch[2]])

    assert [told(outcome) for outcome in outcomes] == [
        (1, True, [Opened("Ada")]),
        CommandIdReusedError,
        (1, True, [Opened("Ada")]),
    ]


def test_those_too_long_for_the_look_are_loaded_all_the_same(stores: Stores) -> None:
    accounts = [account() for _ in range(3)]
    for ref in accounts:
        stores.events.append(booked(ref, *[1] * 150))
    bus = CommandBus(stores.events, Aggregates(stores.events), [BANK])

    outcomes = bus.dispatch_each([Command.new(Withdraw(150), ref.id) for ref in accounts])

    assert [o.version for o in outcomes if isinstance(o, CommandResult)] == [152] * 3


def test_an_aggregate_that_cannot_be_read_keeps_no_other_back(stores: Stores) -> None:
    ada, bob = account(), account()
    stores.events.append(booked(bob, 7))
    stores.events.append([Event.new(ada, version=1, data=LimitSet(5))])
    bus = CommandBus(stores.events, Aggregates(stores.events), [BANK])

    of_ada, of_bob = bus.dispatch_each(
        [Command.new(Deposit(1), ada.id), Command.new(Deposit(1), bob.id)]
    )

    assert isinstance(of_ada, EventSourcingError)
    assert "no applier" in str(of_ada)
    assert isinstance(of_bob, CommandResult)
