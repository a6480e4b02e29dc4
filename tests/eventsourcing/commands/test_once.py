"""A command is done once, whoever sends it again, wherever, and whenever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest

from shop.eventsourcing import (
    Command,
    CommandBus,
    CommandIdReusedError,
    CommandPayload,
    CommandRejected,
    CommandResult,
    Event,
    EventData,
    Module,
    OutcomeUnknownError,
    Query,
    StoreUnavailableError,
    UnitOfWork,
)
from tests.eventsourcing.bank import (
    BANK,
    Account,
    Deposit,
    Open,
    Transfer,
    Withdraw,
    account,
    booked,
)
from tests.eventsourcing.commands.conftest import balance
from tests.eventsourcing.conftest import OpenShared, Stores, command_bus

ADA, BOB = account(), account()


class TestOnce:
    """A command id is carried out once, whoever sends it again, and wherever."""

    @pytest.fixture(autouse=True)
    def two_accounts(self, stores: Stores) -> None:
        stores.events.append([*booked(ADA, 10), *booked(BOB, owner="Bob")])

    @pytest.mark.parametrize(
        "payload",
        [Deposit(5), Withdraw(10), Transfer(BOB.id, 7), Deposit(0)],
        ids=["deposit", "withdraw-all", "transfer", "no-op"],
    )
    def test_a_repeat_returns_the_first_result(
        self, stores: Stores, commands: CommandBus, payload: CommandPayload
    ) -> None:
        wanted = Command.new(payload, ADA.id)
        first = commands.dispatch(wanted)
        commands.dispatch(Command.new(Deposit(100), ADA.id))
        head = stores.events.head()

        again = commands.dispatch(wanted)

        assert again.replayed
        assert _said(again) == _said(first)
        assert stores.events.head() == head

    @pytest.mark.parametrize(
        "wanted",
        [Command.new(Open("Eve")), Command.new(Deposit(5), ADA.id, expected_version=2)],
        ids=["creation", "expected version"],
    )
    def test_a_repeated_creation_or_expected_version_returns_the_first_result(
        self, commands: CommandBus, wanted: Command[CommandPayload]
    ) -> None:
        first = commands.dispatch(wanted)

        again = commands.dispatch(wanted)

        assert again.replayed
        assert _said(again) == _said(first)

    def test_a_repeat_that_would_be_refused_by_now_returns_the_first_result(
        self, commands: CommandBus
    ) -> None:
        wanted = Command.new(Withdraw(10), ADA.id)
        first = commands.dispatch(wanted)

        again = commands.dispatch(wanted)  # nothing is left to withdraw

        assert again.replayed
        assert _said(again) == _said(first)

    def test_a_repeat_whose_first_result_cannot_be_read_is_not_said_to_have_done_nothing(
        self, stores: Stores, commands: CommandBus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(query: Query) -> Iterator[Event[EventData]]:
            raise StoreUnavailableError("the cable is out")

        wanted = Command.new(Deposit(5), ADA.id)
        commands.dispatch(wanted)
        monkeypatch.setattr(stores.events, "read", fail)
        with pytest.raises(OutcomeUnknownError) as error:
            commands.dispatch(wanted)
        assert error.value.command_id == wanted.id

    def test_sixteen_threads_that_send_it_at_once_have_it_done_once(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        wanted = Command.new(Withdraw(10), ADA.id)
        start = Barrier(16)

        def send(_: int) -> CommandResult:
            start.wait()
            return commands.dispatch(wanted)

        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(send, range(16)))

        assert sorted(result.replayed for result in results) == [False] + [True] * 15
        assert len({repr(_said(result)) for result in results}) == 1
        assert balance(stores, ADA) == 0

    @pytest.mark.parametrize(
        ("payload", "id"),
        [(Deposit(6), ADA.id), (Withdraw(5), ADA.id), (Deposit(5), BOB.id), (Open("Eve"), None)],
        ids=["another-amount", "another-command", "another-aggregate", "creation"],
    )
    def test_the_id_is_not_used_for_something_else(
        self, stores: Stores, commands: CommandBus, payload: CommandPayload, id: UUID | None
    ) -> None:
        done = commands.dispatch(Command.new(Deposit(5), ADA.id))

        with pytest.raises(CommandIdReusedError) as error:
            commands.dispatch(Command.new(payload, id, id=done.command_id))

        assert error.value.command_id == done.command_id
        assert stores.events.head() == done.position

    def test_the_id_is_not_used_for_something_else_that_is_refused(
        self, commands: CommandBus
    ) -> None:
        done = commands.dispatch(Command.new(Deposit(5), ADA.id))

        with pytest.raises(CommandIdReusedError):
            commands.dispatch(Command.new(Withdraw(1000), ADA.id, id=done.command_id))


class TestGivenUp:
    """A command that is sent again while a process may still be at it, whose answer is lost."""

    @pytest.fixture(autouse=True)
    def an_account(self, stores: Stores) -> None:
        stores.events.append(booked(ADA, 10))

    def test_what_is_refused_then_is_not_done_by_the_process_before(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        begun, wakes = threading.Event(), threading.Event()

        def sleep(payload: Withdraw, id: UUID, work: UnitOfWork) -> None:
            work.get(Account, id).withdraw(payload.amount)
            begun.set()
            assert wakes.wait(30)

        before = command_bus(stores, Module(BANK.aggregates, {**BANK.handlers, Withdraw: sleep}))
        wanted = Command.new(Withdraw(10), ADA.id)
        with ThreadPoolExecutor(1) as pool:
            sleeping = pool.submit(before.dispatch, wanted)
            assert begun.wait(30)
            commands.dispatch(Command.new(Withdraw(5), ADA.id))
            with pytest.raises(CommandRejected, match="funds-insufficient"):
                commands.dispatch(wanted, given_up_before=True)
            commands.dispatch(Command.new(Deposit(5), ADA.id))
            wakes.set()
            with pytest.raises(CommandRejected, match="refused-before"):
                sleeping.result(30)
        assert balance(stores, ADA) == 10

    def test_its_id_is_used_up(self, stores: Stores, commands: CommandBus) -> None:
        refused = Command.new(Withdraw(11), ADA.id)
        with pytest.raises(CommandRejected, match="funds-insufficient"):
            commands.dispatch(refused, given_up_before=True)
        assert stores.events.head() == 2

        with pytest.raises(CommandRejected, match="funds-insufficient"):
            commands.dispatch(refused, given_up_before=True)
        with pytest.raises(CommandIdReusedError):
            commands.dispatch(Command.new(Withdraw(12), ADA.id, id=refused.id))
        commands.dispatch(Command.new(Deposit(1), ADA.id))
        with pytest.raises(CommandRejected, match="refused-before"):
            commands.dispatch(refused)
        [outcome] = commands.dispatch_each([refused])
        assert isinstance(outcome, CommandRejected)
        assert outcome.code == "refused-before"
        assert balance(stores, ADA) == 11

    def test_what_was_done_before_is_not_refused(self, commands: CommandBus) -> None:
        wanted = Command.new(Withdraw(10), ADA.id)
        first = commands.dispatch(wanted)

        again = commands.dispatch(wanted, given_up_before=True)

        assert again.replayed
        assert _said(again) == _said(first)

    def test_the_id_is_not_used_for_something_else(self, commands: CommandBus) -> None:
        done = commands.dispatch(Command.new(Deposit(5), ADA.id))
        other = Command.new(Withdraw(1000), ADA.id, id=done.command_id)
        with pytest.raises(CommandIdReusedError):
            commands.dispatch(other, given_up_before=True)


def _said(result: CommandResult) -> tuple[object, ...]:
    return (
        result.command_id,
        result.aggregate,
        result.version,
        result.position,
        result.events,
    )


def test_after_a_restart_a_repeat_returns_the_first_result(open_shared: OpenShared) -> None:
    before = open_shared()
    opened = command_bus(before).dispatch(Command.new(Open("Ada")))
    wanted = Command.new(Deposit(5), opened.aggregate.id)
    first = command_bus(before).dispatch(wanted)
    before.events.close()
    after = open_shared()

    again = command_bus(after).dispatch(wanted)

    assert again.replayed
    assert _said(again) == _said(first)
    assert balance(after, opened.aggregate) == 5
