"""What authors of workflows write, without a store."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from shop.eventsourcing import (
    Event,
    EventData,
    Phase,
    TimerFired,
    Workflow,
    WorkflowError,
    WorkflowInstance,
    aggregate,
    reacts_to,
    when_due,
    when_refused,
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
    Account,
    Deposit,
    Deposited,
    Opened,
    Withdraw,
)
from tests.eventsourcing.reminders import (
    Reminder,
    Reminders,
    Trouble,
)

ADA = uuid4()


def happened(reminder: Reminder, data: EventData) -> Event[EventData]:
    return Event.new(reminder.ref, version=1, data=data)


def test_something_must_begin_a_workflow() -> None:
    with pytest.raises(ValueError, match=r"nothing begins an instance of .*Idle: mark a method"):

        class Idle(Workflow[Reminder]):
            instances = Reminder

            @reacts_to(Opened)
            def opened(self, event: Event[Opened], reminder: Reminder, now: datetime) -> None: ...


def test_a_timer_without_a_handler_is_an_error() -> None:
    reminder = aggregate_after(Reminder, PhaseChanged(Phase.RUNNING))
    event = happened(reminder, TimerFired("other"))
    with pytest.raises(WorkflowError, match="@when_due\\('other'\\)"):
        Reminders().react(event, reminder, event.time)


def test_a_timer_that_no_method_waits_for_is_an_error_when_it_is_set() -> None:
    class Forgetful(Workflow[Reminder]):
        instances = Reminder

        @reacts_to(Opened, begins=True)
        def opened(self, event: Event[Opened], reminder: Reminder, now: datetime) -> None:
            reminder.set_timer("later", now)

    reminder = Reminder(ADA)
    event = happened(reminder, Opened("Ada"))
    with pytest.raises(WorkflowError, match="@when_due\\('later'\\)"):
        Forgetful().react(event, reminder, event.time)


def test_a_refusal_without_a_handler_is_an_error() -> None:
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


def test_an_end_is_final() -> None:
    reminder = aggregate_after(Reminder, PhaseChanged(Phase.RUNNING), PhaseChanged(Phase.COMPLETED))
    reminder.complete()  # it is
    with pytest.raises(ValueError, match="it is completed, which is final: it cannot be failed"):
        reminder.fail("no")
    with pytest.raises(ValueError, match="it cannot be compensating"):
        reminder.compensate()
    assert reminder.changes == []


def definition(instances: Any = Reminder, **methods: Any) -> dict[str, Any]:
    """What a workflow is made of."""
    return {"instances": instances, **methods}


class Clashing(WorkflowInstance):
    timers: int = 0  # type: ignore[assignment]  # the mistake


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (definition(Account), "W.instances is a class of WorkflowInstance, marked with @aggregate"),
        (
            definition(WorkflowInstance),
            "W.instances is a class of WorkflowInstance, marked with @aggregate",
        ),
        (definition(aggregate("bank.clash")(Clashing)), "Clashing.timers is the toolkit's"),
        (
            definition(
                one=reacts_to(Opened, begins=True)(lambda *_: None),
                other=reacts_to(Deposited, Opened)(lambda *_: None),
            ),
            "W has two methods for bank.account.opened",
        ),
        (
            definition(
                one=when_due("end")(lambda *_: None),
                other=when_due("end")(lambda *_: None),
            ),
            "W has two methods for end",
        ),
        (
            definition(
                one=when_refused(Deposit)(lambda *_: None),
                other=when_refused(Deposit)(lambda *_: None),
            ),
            "W has two methods for bank.account.deposit",
        ),
    ],
)
def test_what_could_not_be_run_is_told_where_it_is_defined(body: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(told)):
        type("W", (Workflow,), body)


@pytest.mark.parametrize(
    ("mark", "what"), [(reacts_to, Deposit), (when_refused, Opened), (reacts_to, Account.open)]
)
def test_a_handler_is_marked_with_classes_of_its_kind(mark: Any, what: Any) -> None:
    with pytest.raises(TypeError, match=f"@{mark.__name__} takes classes of "):
        mark(what)


def test_marks_of_one_method_add_up() -> None:
    class Stacked(Workflow[Reminder]):
        instances = Reminder

        @reacts_to(Opened, begins=True)
        @reacts_to(Deposited)
        @when_due("one")
        @when_due("other")
        @when_refused(Deposit)
        @when_refused(Withdraw)
        def any(self, event: Event[Any], instance: Reminder, now: datetime) -> None:
            instance.complete(event.name)

    told: list[EventData] = [
        *(Opened("Ada"), Deposited(1), TimerFired("one"), TimerFired("other")),
        *(
            CommandRefused(uuid4(), f"bank.account.{verb}", "no", "")
            for verb in ("deposit", "withdraw")
        ),
    ]
    for data in told:
        reminder = aggregate_after(Reminder, PhaseChanged(Phase.RUNNING))
        event = happened(reminder, data)
        Stacked().react(event, reminder, event.time)
        assert reminder.reason == event.name


def test_a_base_of_other_workflows_need_not_be_whole() -> None:
    class Base(Workflow[Reminder]):
        @when_due("end")
        def ended(self, event: Event[TimerFired], instance: Reminder, now: datetime) -> None: ...

    class Whole(Base):
        instances = Reminder

        @reacts_to(Opened, begins=True)
        def opened(self, event: Event[Opened], instance: Reminder, now: datetime) -> None: ...

        @when_due("end")
        def ended(self, event: Event[TimerFired], instance: Reminder, now: datetime) -> None: ...

    assert Whole().name == "bank.reminder"
