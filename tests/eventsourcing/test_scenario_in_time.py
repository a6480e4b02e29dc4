"""Scenarios with projections and workflows, and the time that passes in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from time import sleep

import pytest

from shop.backends.memory import MemoryEventStore, MemoryModelStore
from shop.eventsourcing import (
    Event,
    ModelSession,
    Phase,
    TimerFired,
    WorkflowEntry,
    handles,
    when_due,
)
from shop.eventsourcing.following.follower import FollowerError
from shop.eventsourcing.testing import Scenario
from tests.eventsourcing.bank import (
    BANK,
    Account,
    Balance,
    Balances,
    Deposit,
    Deposited,
    Opened,
    Transfer,
    Withdraw,
    Withdrawn,
    account,
)
from tests.eventsourcing.reminders import MODULES, PATIENCE, Reminder, Reminders

ADA, BOB = account(), account()


class PatientReminders(Reminders):
    """Waits as long again, and says in between that it does."""

    @when_due("late")
    def late(self, event: Event[TimerFired], reminder: Reminder, now: datetime) -> None:
        reminder.set_timer("at last", now + timedelta(seconds=PATIENCE))

    @when_due("at last")
    def at_last(self, event: Event[TimerFired], reminder: Reminder, now: datetime) -> None:
        super().late(event, reminder, now)


class TransferReminders(Reminders):
    """Has something given to Bob instead."""

    @when_due("late")
    def late(self, event: Event[TimerFired], reminder: Reminder, now: datetime) -> None:
        reminder.request(Transfer(BOB.id, 1), reminder.id)


class RestlessReminders(Reminders):
    """Does the same again, at the same moment."""

    @when_due("late")
    def late(self, event: Event[TimerFired], reminder: Reminder, now: datetime) -> None:
        reminder.set_timer("late", now)


class WrongBalances(Balances):
    """Fails on what is deposited."""

    @handles(Deposited)
    def deposited(self, event: Event[Deposited], models: ModelSession) -> None:
        raise ZeroDivisionError


@pytest.fixture
def bank() -> Scenario:
    return scenario(Reminders())


def scenario(workflow: Reminders, projection: type[Balances] = Balances) -> Scenario:
    return Scenario(
        MemoryEventStore,
        *MODULES,
        models=MemoryModelStore(),
        projections=[projection()],
        workflows=[workflow],
    )


def phase(bank: Scenario) -> Phase | None:
    return bank.aggregates.load(Reminder, ADA.id).phase


def test_a_workflow_does_what_is_to_be_done_in_time(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada"), BOB, Opened("Bob"), Deposited(5))
    bank.when(Deposit(13), ADA)

    bank.after(PATIENCE - 1).then_nothing()
    assert phase(bank) == Phase.RUNNING
    bank.after(2).then(ADA, Withdrawn(5))
    assert phase(bank) == Phase.COMPENSATED
    bank.after(10 * PATIENCE).then_nothing()


def test_a_command_in_time_keeps_it_from_that(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).after().then_nothing()
    bank.when(Deposit(5), ADA).after(10 * PATIENCE).then_nothing()
    assert phase(bank) == Phase.COMPLETED


def test_time_stands_still_in_between(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada"))
    sleep(0.01)
    bank.when(Deposit(13), ADA).after(PATIENCE - 0.001).then_nothing()
    sleep(0.01)
    bank.after(0.001).then(ADA, Withdrawn(5))


def test_events_are_of_the_time_that_has_passed(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).after(10).when(Deposit(13), ADA).after(PATIENCE)
    opened, deposited, withdrawn = (event.time for event in bank.events(ADA))
    assert (deposited - opened).total_seconds() == 10
    assert (withdrawn - opened).total_seconds() == PATIENCE


def test_what_a_workflow_did_is_given_to_the_next_command(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Deposit(13), ADA).after(PATIENCE + 1)
    bank.when(Withdraw(9), ADA).then_rejected("funds-insufficient")
    bank.when(Withdraw(8), ADA).then(ADA, Withdrawn(8))


@pytest.mark.parametrize(("seconds", "done"), [(1.5, False), (2.5, True)])
def test_a_timer_that_is_set_on_the_way_fires_on_the_way(seconds: float, done: bool) -> None:
    bank = scenario(PatientReminders())
    bank.given(ADA, Opened("Ada")).when(Deposit(13), ADA).after(seconds * PATIENCE)
    if done:
        bank.then(ADA, Withdrawn(5))
    else:
        bank.then_nothing()


def test_read_models_show_what_happened(bank: Scenario) -> None:
    assert bank.model(Balance, ADA.id) is None
    bank.given(ADA, Opened("Ada"), Deposited(13))
    assert bank.model(Balance, ADA.id) == Balance("Ada", 13, 1)
    bank.after(PATIENCE + 1)
    assert bank.model(Balance, ADA.id) == Balance("Ada", 8, 2)
    entry = bank.model(WorkflowEntry, f"{Reminder.kind}/{ADA.id}")
    assert entry is not None
    assert entry.phase == Phase.COMPENSATED


def test_more_than_a_batch_is_followed_to_its_end(bank: Scenario) -> None:
    others = [account() for _ in range(700)]
    for other in others:
        bank.given(other, Opened("Ada"), Deposited(13))
    assert bank.model(Balance, others[-1].id) == Balance("Ada", 13, 1)
    withdrawn = [told for other in others for told in (other, Withdrawn(5))]
    bank.after(PATIENCE + 1).then(*withdrawn)  # type: ignore[arg-type]  # begins with one


def test_timers_that_are_due_together_fire_in_the_order_they_were_set() -> None:
    for _ in range(5):
        bank = scenario(TransferReminders())
        accounts = [account() for _ in range(4)]
        bank.given(BOB, Opened("Bob"), Deposited(5))
        for number, opened in enumerate(accounts, 1):
            bank.given(opened, Opened("Ada"), Deposited(13)).after()
            bank.given(opened, *[Deposited(13)] * number)
        bank.after(PATIENCE)
        received = [event.data for event in bank.events(BOB) if isinstance(event.data, Deposited)]
        assert received == [Deposited(5), *(Deposited(1) for _ in accounts)]
        came_from = [event.metadata.causation_id for event in bank.events(BOB)[-4:]]
        assert len(set(came_from)) == 4
        positions = [bank.events(opened)[-1].position for opened in accounts]
        assert positions == sorted(positions)


def test_a_workflow_that_fails_is_told(bank: Scenario) -> None:
    with pytest.raises(AssertionError, match=r"failed on bank\.account\.opened: Trouble: nobody"):
        bank.given(ADA, Opened("Nobody")).after()


def test_a_workflow_that_comes_to_no_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop.eventsourcing.testing.background._MOST_ROUNDS", 100)
    with pytest.raises(
        RuntimeError, match=r"after 100 rounds; what happened last: .*timer_set of bank\.reminder/"
    ):
        scenario(RestlessReminders()).given(ADA, Opened("Ada")).after(PATIENCE)


def test_a_projection_that_fails_is_told() -> None:
    bank = scenario(Reminders(), WrongBalances).given(ADA, Opened("Ada"), Deposited(5))
    with pytest.raises(FollowerError, match=r"balances failed on event .*ZeroDivisionError"):
        bank.after()


@pytest.mark.parametrize(
    ("do", "told"),
    [
        (lambda bank: bank.after(1).result, "the last step was after"),
        (lambda bank: bank.after(-1), "time does not go back"),
        (lambda bank: bank.model(Account, ADA.id), "no projection has Account"),
    ],
)
def test_mistakes_are_told(do: Callable[[Scenario], object], told: str, bank: Scenario) -> None:
    with pytest.raises((ValueError, LookupError), match=told):
        do(bank)


def test_a_scenario_is_given_objects_that_go_together() -> None:
    with pytest.raises(TypeError, match="workflows must be of type Workflow"):
        Scenario(MemoryEventStore, *MODULES, workflows=[Reminders])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="projections must be of type Projection"):
        Scenario(MemoryEventStore, *MODULES, projections=[Balances])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"no module has Reminder, of bank\.reminder"):
        Scenario(MemoryEventStore, BANK, workflows=[Reminders()])


def test_without_projections_and_workflows_nothing_follows() -> None:
    with pytest.raises(ValueError, match="no projections and no workflows"):
        Scenario(MemoryEventStore, *MODULES).after(1)
    with pytest.raises(ValueError, match="need a store of models"):
        Scenario(MemoryEventStore, *MODULES, workflows=[Reminders()])
