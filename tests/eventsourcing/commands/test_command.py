from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest

from shop.eventsourcing import (
    Aggregate,
    AggregateNotFoundError,
    Aggregates,
    Command,
    CommandBus,
    CommandPayload,
    CommandRejected,
    CommandTimeoutError,
    EventData,
    Metadata,
    Module,
    Query,
    Repository,
    StaleVersionError,
    UnitOfWork,
    UnknownCommandError,
    aggregate,
    applies,
    command,
    event,
)
from tests.eventsourcing.bank import (
    BANK,
    LIMIT_ID,
    Account,
    Deposit,
    Deposited,
    Limit,
    Open,
    Opened,
    Transfer,
    Withdraw,
    Withdrawn,
    account,
    booked,
    open_account,
)
from tests.eventsourcing.commands.conftest import balance
from tests.eventsourcing.conftest import Stores, command_bus

ADA, BOB = account(), account()


def test_a_handler_does_not_commit(memory_stores: Stores) -> None:
    """It would be stored without the command's id, and once more when the command is sent again."""

    def commit(payload: Open, id: UUID, work: UnitOfWork) -> None:
        open_account(payload, id, work)
        work.commit()

    commands = command_bus(memory_stores, Module(BANK.aggregates, {Open: commit}))
    with pytest.raises(ValueError, match="a handler does not commit"):
        commands.dispatch(Command.new(Open("Ada")))
    assert memory_stores.events.head() == 0


@event("bank.forgotten")
class Forgotten(EventData, frozen=True):
    """Is in no registry."""


@aggregate("bank.account")
class Forgetful(Aggregate):
    @applies(Forgotten)
    def _forget(self, data: Forgotten) -> None: ...


class TestCarriedOut:
    def test_the_result_tells_what_was_done(self, stores: Stores, commands: CommandBus) -> None:
        stores.events.append([*booked(BOB, owner="Bob"), *booked(ADA, 10)])
        wanted = Command.new(Transfer(BOB.id, 4), ADA.id)

        result = commands.dispatch(wanted)

        assert result.command_id == wanted.id
        assert (result.aggregate, result.version, result.position) == (ADA, 3, 5)
        assert [(e.aggregate, e.data) for e in result.events] == [
            (ADA, Withdrawn(4)),
            (BOB, Deposited(4)),
        ]
        assert list(result.events) == list(stores.events.read(Query(after=3)))
        assert not result.replayed

    def test_a_command_that_creates_makes_the_id_where_none_is_given(
        self, commands: CommandBus
    ) -> None:
        result = commands.dispatch(Command.new(Open("Ada")))

        assert result.events[0].data == Opened("Ada")
        assert result.events[0].aggregate == result.aggregate

    def test_any_other_command_needs_the_id(self) -> None:
        with pytest.raises(ValueError, match=r"bank\.account\.deposit needs the id of its bank"):
            Command.new(Deposit(5))
        with pytest.raises(ValueError, match=r"bank\.account\.deposit needs the id of its bank"):
            Command(uuid4(), Deposit(5))

    def test_a_command_that_changes_nothing_records_nothing(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        stores.events.append(booked(ADA, 10))

        result = commands.dispatch(Command.new(Deposit(0), ADA.id))

        assert (result.events, result.version, result.position) == ((), 2, 2)

    def test_events_say_why_they_happened(self, stores: Stores, commands: CommandBus) -> None:
        correlation, causation = uuid4(), uuid4()
        wanted = Command.new(
            Open("Ada"), correlation_id=correlation, causation_id=causation, actor="clerk"
        )

        commands.dispatch(wanted)

        [stored] = stores.events.read()
        assert stored.metadata == Metadata(wanted.id, correlation, causation, "clerk")

    def test_a_command_that_nothing_caused_began_it_all(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        wanted = Command.new(Open("Ada"))

        commands.dispatch(wanted)

        [stored] = stores.events.read()
        assert stored.metadata == Metadata(wanted.id, wanted.id, wanted.id)


class TestRefused:
    def test_a_rejected_command_leaves_no_trace(self, stores: Stores, commands: CommandBus) -> None:
        stores.events.append(booked(ADA, 10))
        wanted = Command.new(Withdraw(11), ADA.id)

        with pytest.raises(CommandRejected) as refusal:
            commands.dispatch(wanted)

        assert refusal.value.code == "funds-insufficient"
        assert stores.events.head() == 2
        assert stores.events.find_commit(wanted.id) is None

    def test_a_rejected_command_sent_again_is_judged_anew(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        stores.events.append(booked(ADA, 10))
        wanted = Command.new(Withdraw(11), ADA.id)
        with pytest.raises(CommandRejected):
            commands.dispatch(wanted)
        stores.events.append(booked(ADA, 1, after=2))

        result = commands.dispatch(wanted)

        assert not result.replayed
        assert balance(stores, ADA) == 0

    def test_an_aggregate_that_does_not_exist_is_not_found(self, commands: CommandBus) -> None:
        with pytest.raises(AggregateNotFoundError) as error:
            commands.dispatch(Command.new(Deposit(1), ADA.id))

        assert error.value.aggregate == ADA

    def test_another_version_than_expected_is_stale(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        stores.events.append(booked(ADA, 10))

        with pytest.raises(StaleVersionError) as error:
            commands.dispatch(Command.new(Deposit(1), ADA.id, expected_version=1))

        assert (error.value.aggregate, error.value.expected, error.value.actual) == (ADA, 1, 2)
        assert stores.events.head() == 2

    def test_a_stale_version_is_told_before_what_the_rules_say(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        stores.events.append(booked(ADA, 10))

        with pytest.raises(StaleVersionError):
            commands.dispatch(Command.new(Withdraw(1_000), ADA.id, expected_version=1))

    def test_the_expected_version_is_carried_out(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        stores.events.append(booked(ADA, 10))

        assert commands.dispatch(Command.new(Deposit(1), ADA.id, expected_version=2)).version == 3

    def test_what_nobody_handles_is_unknown(self, commands: CommandBus) -> None:
        @command("bank.account.dream")
        class Dream(CommandPayload, frozen=True):
            pass

        with pytest.raises(UnknownCommandError) as error:
            commands.dispatch(Command.new(Dream(), ADA.id))

        assert error.value.name == "bank.account.dream"

    def test_what_a_handler_raises_by_mistake_comes_out(
        self, stores: Stores, commands: CommandBus
    ) -> None:
        def mistaken(payload: Open, id: UUID, work: UnitOfWork) -> None:
            work.find(Account, id).open(payload.owner)
            raise LookupError("a bug")

        with pytest.raises(LookupError):
            command_bus(stores, Module(BANK.aggregates, {Open: mistaken})).dispatch(
                Command.new(Open("Ada"))
            )

        assert stores.events.head() == 0

    def test_an_event_of_an_aggregate_in_no_module_is_a_bug_and_not_the_senders_fault(
        self, stores: Stores
    ) -> None:
        def bold(payload: Open, id: UUID, work: UnitOfWork) -> None:
            work.find(Forgetful, id).record(Forgotten())

        commands = command_bus(stores, Module(BANK.aggregates, {Open: bold}))
        with pytest.raises(ValueError, match=r"recorded bank\.forgotten, but no module has"):
            commands.dispatch(Command.new(Open("Ada")))
        [outcome] = commands.dispatch_each([Command.new(Open("Ada"))])
        assert isinstance(outcome, ValueError)
        assert stores.events.head() == 0

    def test_a_handler_has_to_load_the_aggregate_that_is_addressed(self, stores: Stores) -> None:
        def forgetful(payload: Deposit, id: UUID, work: UnitOfWork) -> None:
            work.find(Limit, LIMIT_ID).set(payload.amount)

        commands = command_bus(stores, Module(BANK.aggregates, {Deposit: forgetful}))
        with pytest.raises(ValueError, match=f"did not load {ADA}, which the command"):
            commands.dispatch(Command.new(Deposit(5), ADA.id))

        assert stores.events.head() == 0


def test_under_contention_every_command_lands(stores: Stores, commands: CommandBus) -> None:
    stores.events.append(booked(ADA))
    start = Barrier(8)

    def deposit_often() -> None:
        start.wait()
        for _ in range(50):
            commands.dispatch(Command.new(Deposit(1), ADA.id), timeout=60)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(deposit_often) for _ in range(8)]:
            done.result()

    assert balance(stores, ADA) == 400
    assert stores.events.head() == 401


def test_a_conflict_has_the_command_judged_anew(stores: Stores) -> None:
    stores.events.append(booked(ADA, 10))
    attempts: list[int] = []

    def overtaken_once(payload: Withdraw, id: UUID, work: UnitOfWork) -> None:
        ada = work.get(Account, id)
        attempts.append(ada.balance)
        if len(attempts) == 1:
            command_bus(stores).dispatch(Command.new(Withdraw(10), ADA.id))
        ada.withdraw(payload.amount)

    commands = command_bus(stores, Module(BANK.aggregates, {Withdraw: overtaken_once}))
    with pytest.raises(CommandRejected, match="funds-insufficient"):
        commands.dispatch(Command.new(Withdraw(10), ADA.id))

    assert attempts == [10, 0]
    assert balance(stores, ADA) == 0


def test_what_a_decision_was_based_on_must_still_hold(stores: Stores) -> None:
    """A limit lowered while a withdrawal is under way is respected."""
    stores.events.append(booked(ADA, 10))
    aggregates = Aggregates(stores.events)
    lowered: list[bool] = []

    def withdraw_slowly(payload: Withdraw, id: UUID, work: UnitOfWork) -> None:
        BANK.handlers[Withdraw](payload, id, work)
        if not lowered:
            lowered.append(True)
            Repository(aggregates, Limit).use(LIMIT_ID, lambda limit: limit.set(5))

    commands = command_bus(stores, Module(BANK.aggregates, {Withdraw: withdraw_slowly}))
    with pytest.raises(CommandRejected, match="limit-exceeded"):
        commands.dispatch(Command.new(Withdraw(6), ADA.id))

    assert balance(stores, ADA) == 10


def test_conflicts_without_end_are_given_up_when_the_time_is_over(stores: Stores) -> None:
    stores.events.append(booked(ADA))

    def always_overtaken(payload: Deposit, id: UUID, work: UnitOfWork) -> None:
        ada = work.get(Account, id)
        stores.events.append(booked(ADA, 1, after=ada.version))
        ada.deposit(payload.amount)

    commands = command_bus(stores, Module(BANK.aggregates, {Deposit: always_overtaken}))
    wanted = Command.new(Deposit(1000), ADA.id)
    with pytest.raises(CommandTimeoutError, match=r"bank\.account\.deposit met a conflicting"):
        commands.dispatch(wanted, timeout=0.1)

    assert balance(stores, ADA) < 1000
    assert stores.events.find_commit(wanted.id) is None


def test_the_registry_holds_the_commands_of_all_modules(commands: CommandBus) -> None:
    assert set(commands.registry) == {Open, Deposit, Withdraw, Transfer}
