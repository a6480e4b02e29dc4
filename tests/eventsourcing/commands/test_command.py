from __future__ import annotations

import threading
from collections.abc import Iterator
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
    CommandIdReusedError,
    CommandPayload,
    CommandRejected,
    CommandResult,
    CommandTimeoutError,
    Event,
    EventData,
    Metadata,
    Module,
    OutcomeUnknownError,
    Query,
    Repository,
    StaleVersionError,
    StoreUnavailableError,
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
from tests.eventsourcing.conftest import OpenShared, Stores, command_bus

ADA, BOB = account(), account()


@pytest.fixture
def commands(stores: Stores) -> CommandBus:
    return command_bus(stores)


def test_a_handler_does_not_commit(memory_stores: Stores) -> None:
    """It would be stored without the command's id, and once more when the command is sent again."""

    def commit(payload: Open, id: UUID, work: UnitOfWork) -> None:
        open_account(payload, id, work)
        work.commit()

    commands = command_bus(memory_stores, Module(BANK.aggregates, {Open: commit}))
    with pytest.raises(ValueError, match="a handler does not commit"):
        commands.dispatch(Command.new(Open("Ada")))
    assert memory_stores.events.head() == 0


def balance(stores: Stores, id: UUID = ADA.id) -> int:
    return Aggregates(stores.events).load(Account, id).balance


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
        assert balance(stores) == 0

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
        assert balance(stores) == 0

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
        assert balance(stores) == 10

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
        assert balance(stores) == 11

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
    assert balance(after, opened.aggregate.id) == 5


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

    assert balance(stores) == 400
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
    assert balance(stores) == 0


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

    assert balance(stores) == 10


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

    assert balance(stores) < 1000
    assert stores.events.find_commit(wanted.id) is None


def test_the_registry_holds_the_commands_of_all_modules(commands: CommandBus) -> None:
    assert set(commands.registry) == {Open, Deposit, Withdraw, Transfer}
