"""What authors of workflows write, without a store."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import pytest

from shop.eventsourcing import (
    Event,
    EventData,
    Phase,
    TimerFired,
    WorkflowError,
    WorkflowInstance,
    aggregate,
)
from shop.eventsourcing.testing import aggregate_after
from shop.eventsourcing.workflows.instance import (
    CommandRefused,
    Deferred,
    Parked,
    PhaseChanged,
    Resumed,
    TimerCancelled,
    TimerSet,
)
from tests.eventsourcing.bank import (
    Deposit,
    Deposited,
    Opened,
)
from tests.eventsourcing.reminders import (
    Reminder,
    Reminders,
    Trouble,
)

ADA = uuid4()


def happened(reminder: Reminder, data: EventData) -> Event[EventData]:
    return Event.new(reminder.ref, version=1, data=data)


def test_a_timer_without_a_handler_is_an_error() -> None:
    reminder = aggregate_after(Reminder, PhaseChanged(Phase.RUNNING))
    event = happened(reminder, TimerFired("other"))
    with pytest.raises(WorkflowError, match="@when_due\\('other'\\)"):
        Reminders().react(event, reminder, event.time)


def test_so_is_a_refusal() -> None:
    reminder = aggregate_after(Reminder, PhaseChanged(Phase.RUNNING))
    event = happened(reminder, CommandRefused(uuid4(), "bank.account.open", "no", "never"))
    with pytest.raises(WorkflowError, match=r"bank.account.open was refused \(no: never\)"):
        Reminders().react(event, reminder, event.time)


def test_a_due_time_needs_a_time_zone() -> None:
    reminder = aggregate_after(Reminder, PhaseChanged(Phase.RUNNING))
    with pytest.raises(ValueError, match="time zone"):
        reminder.set_timer("late", datetime(2026, 1, 1))


def test_each_request_has_its_own_command_id_the_same_wherever_it_is_made() -> None:
    reminder = aggregate_after(Reminder, PhaseChanged(Phase.RUNNING))
    twin = Reminder(reminder.id, reminder.version)
    first, second = (reminder.request(Deposit(1), ADA) for _ in range(2))
    assert first != second
    assert twin.request(Deposit(1), ADA) == first


def test_an_instance_may_have_appliers_of_its_own() -> None:
    @aggregate("bank.counted_reminder")
    class Counted(WorkflowInstance):
        timers_set: int = 0

    assert set(Reminder.appliers) == set(Counted.appliers)
    assert {Parked, Resumed, Deferred, TimerSet, TimerCancelled} <= set(Counted.appliers)


def test_a_handler_may_raise_whatever_it_likes() -> None:
    reminder = Reminder(ADA)
    event = happened(reminder, Opened("Nobody"))
    with pytest.raises(Trouble):
        Reminders().react(event, reminder, event.time)
    assert Deposited.wire.name in Reminders().event_names
