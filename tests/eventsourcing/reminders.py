"""A made-up workflow: whoever opens an account at the bank is to deposit something in time."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from shop.eventsourcing import (
    CommandRefused,
    Event,
    Module,
    TimerFired,
    Workflow,
    WorkflowInstance,
    aggregate,
    reacts_to,
    when_due,
    when_refused,
)
from tests.eventsourcing.bank import (
    BANK,
    Account,
    Deposit,
    Deposited,
    LimitSet,
    Opened,
    Withdraw,
    Withdrawn,
)

PATIENCE = 60.0


@aggregate("bank.reminder")
class Reminder(WorkflowInstance):
    pass


class Trouble(Exception):
    """What a handler raises."""


class Reminders(Workflow[Reminder]):
    """Withdraws 5 from an account that nothing was deposited to in time."""

    instances = Reminder

    def __init__(self) -> None:
        self.broken = False

    @reacts_to(Opened, begins=True)
    def opened(self, event: Event[Opened], reminder: Reminder, now: datetime) -> None:
        self.check()
        if event.data.owner == "Nobody":
            raise Trouble("nobody to remind")
        reminder.set_timer("late", now + timedelta(seconds=PATIENCE))

    @reacts_to(Deposited)
    def deposited(self, event: Event[Deposited], reminder: Reminder, now: datetime) -> None:
        self.check()
        if event.data.amount == 13:
            return  # which is no reason to do anything
        reminder.complete(f"deposited {event.data.amount}")

    @reacts_to(Withdrawn)
    def withdrawn(self, event: Event[Withdrawn], reminder: Reminder, now: datetime) -> None:
        if reminder.asked_for(event):
            reminder.compensated()

    @when_due("late")
    def late(self, event: Event[TimerFired], reminder: Reminder, now: datetime) -> None:
        self.check()
        reminder.compensate("late")
        reminder.request(Withdraw(5), reminder.id)

    @when_refused(Withdraw)
    def refused(self, event: Event[CommandRefused], reminder: Reminder, now: datetime) -> None:
        self.check()
        reminder.fail(event.data.code)

    def check(self) -> None:
        if self.broken:
            raise Trouble("as the test wants it")


def named_by_amount(event: Event[LimitSet]) -> UUID | None:
    return UUID(int=event.data.amount) if event.data.amount else None


class LimitReminders(Reminders):
    """Also begins by what happens to another aggregate, found by a function."""

    @reacts_to(LimitSet, begins=True, by=named_by_amount)
    def limit_set(self, event: Event[LimitSet], reminder: Reminder, now: datetime) -> None:
        reminder.complete("limit")


REMINDERS = Module(aggregates=(Reminder,))
MODULES = (BANK, REMINDERS)

__all__ = ["MODULES", "PATIENCE", "Account", "Deposit", "LimitReminders", "Reminder", "Reminders"]
