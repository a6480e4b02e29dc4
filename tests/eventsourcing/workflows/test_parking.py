"""Instances of workflows that fail: parked, told, and tried again."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import pytest

from shop.backends.memory import MemoryModelStore
from shop.eventsourcing import (
    CommandPayload,
    CommandRejected,
    Event,
    Phase,
    WorkflowStatus,
    command,
    reacts_to,
)
from shop.eventsourcing.workflows.instance import CommandRequested
from tests.clockwork import Node, Stage
from tests.eventsourcing.bank import Account, Deposit, Open, Opened
from tests.eventsourcing.reminders import PATIENCE, Reminder, Reminders
from tests.eventsourcing.workflows.conftest import balance, names

ADA, EVE = uuid4(), uuid4()


@command("bank.account.bless")
class Bless(CommandPayload, frozen=True):
    """Of no module."""


class WishfulReminders(Reminders):
    """Wants what nobody can do."""

    @reacts_to(Opened, begins=True)
    def opened(self, event: Event[Opened], reminder: Reminder, now: datetime) -> None:
        reminder.request(Bless(), reminder.id)


class TestParking:
    def test_one_that_fails_is_parked_with_its_error_and_holds_up_no_other(
        self, node: Node, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened = node.do(Open("Nobody"), ADA).events[0]
        node.do(Open("Eve"), EVE)
        node.settle()
        entry = node.entry(ADA)
        assert entry is not None
        assert entry.failure is not None
        assert entry.status == WorkflowStatus.PARKED
        assert entry.failure.error == "Trouble: nobody to remind"
        assert (entry.failure.trigger, entry.failure.trigger_id) == (opened.name, opened.id)
        assert node.instance(EVE).phase == Phase.RUNNING
        [told] = [record for record in caplog.records if "is parked" in record.getMessage()]
        assert (
            f"{node.instance(ADA).ref} is parked, as it failed on event {opened.id}" in told.message
        )
        assert told.exc_info is not None
        assert told.exc_info[1] is not None
        assert told.exc_info[1].__context__ is None  # the failure on the cached state is not told

    def test_what_comes_for_it_waits_in_order_until_it_is_retried(
        self, node: Node, workflow: Reminders
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        workflow.broken = True
        node.do(Deposit(13), ADA)
        node.do(Deposit(7), ADA)
        node.settle()
        assert names(node, ADA)[2:] == ["parked", "deferred"]

        workflow.broken = False
        node.reactions.retry(ADA)
        node.reactions.retry(ADA)  # which was asked for already
        node.settle()
        assert names(node, ADA)[4:] == [
            "retried",
            "resumed",
            "timer_cancelled",
            "phase_changed",
            "resumed",
        ]
        entry = node.entry(ADA)
        assert entry is not None
        assert (entry.status, entry.failure) == (WorkflowStatus.COMPLETED, None)

    def test_one_that_fails_again_stays_parked_with_its_new_error(
        self, node: Node, workflow: Reminders
    ) -> None:
        workflow.broken = True
        node.do(Open("Nobody"), ADA)
        node.settle()
        workflow.broken = False
        node.reactions.retry(ADA)
        node.settle()
        entry = node.entry(ADA)
        assert entry is not None
        assert entry.failure is not None
        assert entry.failure.error == "Trouble: nobody to remind"
        assert node.instance(ADA).waiting == [entry.failure.trigger_id]

    def test_a_retry_is_not_repeated_when_the_log_is_read_again(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        workflow.broken = True
        node.do(Open("Ada"), ADA)
        node.do(Deposit(7), ADA)
        node.settle()
        node.reactions.retry(ADA)
        node.settle()
        workflow.broken = False
        head = node.head
        stage.node(workflow, MemoryModelStore()).react()
        assert node.head == head
        assert node.instance(ADA).parked

    def test_one_retried_again_after_a_crash_is_tried_again_once(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        workflow.broken = True
        node.do(Open("Ada"), ADA)
        node.settle()
        node.reactions.retry(ADA)
        node.settle()
        node.reactions.retry(ADA)
        workflow.broken = False
        # It meets the first retry again, which has been seen to though the second waits.
        again = stage.node(workflow, MemoryModelStore())
        again.settle()
        assert names(again, ADA)[-3:] == ["retried", "timer_set", "resumed"]
        assert not again.instance(ADA).parked

    def test_only_a_parked_one_can_be_retried(self, node: Node) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        with pytest.raises(CommandRejected, match="not-parked"):
            node.reactions.retry(ADA)

    def test_a_timer_of_a_parked_one_fires_and_waits(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        workflow.broken = True
        node.do(Deposit(13), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        node.settle()
        workflow.broken = False
        assert names(node, ADA)[2:] == ["parked", "timer_fired", "deferred"]
        node.reactions.retry(ADA)
        node.settle()
        assert node.instance(ADA).phase == Phase.COMPENSATED
        assert balance(node, ADA) == 8

    def test_a_command_that_cannot_be_carried_out_parks_it(
        self, stage: Stage, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.do(Deposit(13), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)

        def broken(*arguments: object) -> None:
            raise RuntimeError("a mistake in the handler")

        with monkeypatch.context() as patched:
            patched.setattr(Account, "withdraw", broken)
            node.settle()
        entry = node.entry(ADA)
        assert entry is not None
        assert entry.failure is not None
        assert entry.failure.error == "RuntimeError: a mistake in the handler"
        assert entry.phase == Phase.COMPENSATING

        node.reactions.retry(ADA)
        node.settle()
        assert balance(node, ADA) == 8
        assert node.instance(ADA).phase == Phase.COMPENSATED

    def test_to_request_a_command_that_nobody_handles_parks_it_before_it_is_asked_for(
        self, stage: Stage
    ) -> None:
        node = stage.node(WishfulReminders())
        node.do(Open("Ada"), ADA)
        node.settle()
        entry = node.entry(ADA)
        assert entry is not None
        assert entry.failure is not None
        assert entry.failure.trigger == "bank.account.opened"
        assert entry.failure.error == (
            "UnknownCommandError: no handler is registered for the command 'bank.account.bless'"
        )
        assert node.recorded(CommandRequested) == []
