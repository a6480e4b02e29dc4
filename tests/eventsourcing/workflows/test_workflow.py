"""Workflows, moved step by step on a clock of the test's, on each kind of store."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shop.backends.memory import MemoryModelStore
from shop.eventsourcing import (
    AggregateRef,
    Event,
    Phase,
    Query,
    Repository,
    Shadow,
    TimerFired,
    WorkflowList,
    WorkflowStatus,
)
from shop.eventsourcing.workflows.instance import (
    CommandRefused,
    CommandRequested,
)
from tests.clockwork import Crash, Node, Stage
from tests.eventsourcing.bank import (
    LIMIT_ID,
    Account,
    Deposit,
    Deposited,
    Limit,
    Open,
    Opened,
    Withdrawn,
)
from tests.eventsourcing.reminders import (
    PATIENCE,
    LimitReminders,
    Reminder,
    Reminders,
)
from tests.eventsourcing.workflows.conftest import balance, names

ADA, EVE = uuid4(), uuid4()
DEPOSITED = Deposited(5)


class TestReacting:
    def test_a_trigger_begins_an_instance_and_sets_its_timer(
        self, stage: Stage, node: Node
    ) -> None:
        node.do(Open("Ada"), ADA)
        before = stage.clock.now()
        node.settle()

        reminder = node.instance(ADA)
        assert reminder.phase == Phase.RUNNING
        late = reminder.timers["late"] - before
        assert timedelta(seconds=PATIENCE) <= late < timedelta(seconds=PATIENCE + 10)
        entry = node.entry(ADA)
        assert entry is not None
        assert (entry.status, entry.phase) == (WorkflowStatus.RUNNING, Phase.RUNNING)
        assert [(t.timer, t.due) for t in entry.timers] == list(reminder.timers.items())

    def test_what_ends_it_cancels_its_timers(self, stage: Stage, node: Node) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        node.do(Deposit(7), ADA)
        node.settle()
        assert names(node, ADA) == [
            "phase_changed",
            "timer_set",
            "timer_cancelled",
            "phase_changed",
        ]
        reminder = node.instance(ADA)
        assert (reminder.phase, reminder.reason) == (Phase.COMPLETED, "deposited 7")
        stage.clock.advance(2 * PATIENCE)
        assert node.fire() == 0

    def test_an_end_is_final(self, node: Node) -> None:
        node.do(Open("Ada"), ADA)
        node.do(Deposit(7), ADA)
        node.settle()
        head = node.head
        node.do(Deposit(8), ADA)
        node.settle()
        assert node.head == head + 1

    def test_what_does_not_begin_one_is_no_concern_where_there_is_none(self, node: Node) -> None:
        node.events.append(
            [Event.new(AggregateRef("bank.account", ADA), version=1, data=DEPOSITED)]
        )
        node.settle()
        assert node.head == 1
        assert not node.instance(ADA).exists

    def test_one_that_another_process_began_meanwhile_is_not_missed(
        self, stage: Stage, node: Node
    ) -> None:
        other = stage.node(Reminders())
        account = AggregateRef(Account.kind, ADA)
        happening = ((node, DEPOSITED), (other, Opened("Ada")), (node, DEPOSITED))
        for version, (process, data) in enumerate(happening, 1):
            process.events.append([Event.new(account, version=version, data=data)])
            process.react()

        assert node.instance(ADA).phase == Phase.COMPLETED

    def test_each_trigger_is_seen_to_once_whoever_reads_it_again(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.do(Deposit(13), ADA)
        node.settle()
        head = node.head
        other = stage.node(workflow, MemoryModelStore())  # it knows no checkpoint
        stage.clock.advance(5)
        other.react()
        assert other.head == head

    def test_of_two_at_once_one_has_its_way(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        other = stage.node(workflow, MemoryModelStore())
        node.do(Open("Ada"), ADA)
        node.react()
        stage.clock.advance(5)
        other.react()  # which comes to another time for the timer
        assert names(node, ADA) == ["phase_changed", "timer_set"]

    def test_instances_are_found_by_a_function(self, stage: Stage) -> None:
        node = stage.node(LimitReminders())
        for amount in (0, 77):
            limit = node.aggregates.load(Limit, LIMIT_ID)
            limit.set(amount)
            Repository(node.aggregates, Limit).save(limit)
        node.settle()
        assert node.instance(UUID(int=77)).reason == "limit"
        assert node.instance(LIMIT_ID).version == 0

    def test_its_events_tell_what_they_came_of(self, node: Node) -> None:
        opened = node.do(Open("Ada"), ADA).events[0]
        node.settle()
        for event in node.events.read(Query(aggregates=[Reminder.kind])):
            assert event.metadata.causation_id == opened.id
            assert event.metadata.correlation_id == opened.metadata.correlation_id


class TestTimers:
    def test_a_timer_fires_once_it_is_due_and_not_before(self, stage: Stage, node: Node) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        stage.clock.advance(PATIENCE - 5)
        assert node.fire() == 0
        stage.clock.advance(6)
        assert node.fire() == 1

    def test_it_fires_once_though_the_models_do_not_know_yet(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        other = stage.node(workflow)
        assert (node.fire(), node.fire(), other.fire()) == (1, 0, 0)
        assert node.recorded(TimerFired) == [TimerFired("late")]

    def test_one_cancelled_meanwhile_does_not_fire(self, stage: Stage, node: Node) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        node.do(Deposit(7), ADA)
        node.react()
        stage.clock.advance(PATIENCE + 1)
        assert node.fire() == 0
        assert node.recorded(TimerFired) == []

    def test_one_set_anew_fires_at_its_new_time(self, stage: Stage, node: Node) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        later = stage.clock.now() + timedelta(seconds=3 * PATIENCE)
        Repository(node.aggregates, Reminder).use(ADA, lambda it: it.set_timer("late", later))
        stage.clock.advance(PATIENCE + 1)
        assert node.fire() == 0  # whatever the models still say
        node.show()
        entry = node.entry(ADA)
        assert entry is not None
        assert [timer.due for timer in entry.timers] == [later]
        stage.clock.advance(2 * PATIENCE)
        assert node.fire() == 1

    def test_many_fire_in_one_commit(self, stage: Stage, node: Node) -> None:
        accounts = [uuid4() for _ in range(5)]
        for account in accounts:
            node.do(Open("Ada"), account)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        commits = len(list(node.events.commits()))
        assert node.fire() == 5
        assert len(list(node.events.commits())) == commits + 1

    def test_they_outlive_the_process(self, stage: Stage, node: Node, workflow: Reminders) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        assert stage.node(workflow).fire() == 1


class TestCommands:
    def test_a_command_is_carried_out_and_tells_who_wanted_it(
        self, stage: Stage, node: Node
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.do(Deposit(13), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        node.settle()

        [requested] = node.recorded(CommandRequested)
        assert isinstance(requested, CommandRequested)
        [withdrawn] = node.events.read(Query(names=[Withdrawn.wire.name]))
        assert withdrawn.metadata.command_id == requested.command_id
        assert withdrawn.metadata.actor == f"bank.reminder/{ADA}"
        assert balance(node, ADA) == 8
        assert node.instance(ADA).phase == Phase.COMPENSATED

    def test_a_refusal_comes_to_its_handler(self, stage: Stage, node: Node) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        node.settle()
        assert isinstance(node.recorded(CommandRefused)[0], CommandRefused)
        reminder = node.instance(ADA)
        assert (reminder.phase, reminder.reason) == (Phase.FAILED, "funds-insufficient")

    def test_a_refused_command_is_not_tried_again_when_the_log_is_read_again(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        node.settle()
        node.do(Deposit(100), ADA)  # it would be accepted now
        head = node.head
        stage.node(workflow, MemoryModelStore()).react()
        assert node.head == head
        assert balance(node, ADA) == 100

    def test_nor_by_a_process_that_does_not_know_yet_that_another_was_refused(
        self, stage: Stage, node: Node, workflow: Reminders
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        node.fire()
        node.react()
        assert node.recorded(CommandRequested)
        other = stage.node(workflow, MemoryModelStore())
        other.react()
        other.react()
        assert other.recorded(CommandRefused)
        other.do(Deposit(100), ADA)  # it would be accepted now

        node.react()

        assert balance(node, ADA) == 100

    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("writes", range(4))
    def test_a_crash_at_any_write_changes_nothing_in_the_end(
        self, stage: Stage, node: Node, workflow: Reminders, writes: int, *, after: bool
    ) -> None:
        node.do(Open("Ada"), ADA)
        node.do(Deposit(13), ADA)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        node.fuse.light(writes, after=after)
        with pytest.raises(Crash):
            node.settle()
        stage.node(workflow).settle()
        assert balance(node, ADA) == 8
        assert names(node, ADA) == [
            "phase_changed",
            "timer_set",
            "timer_fired",
            "phase_changed",
            "command_requested",
            "phase_changed",
        ]


class TestRebuilding:
    def test_models_built_anew_send_nothing_and_are_the_same(
        self, stage: Stage, node: Node
    ) -> None:
        for owner, id in (("Ada", ADA), ("Nobody", EVE)):
            node.do(Open(owner), id)
        node.settle()
        stage.clock.advance(PATIENCE + 1)
        node.settle()
        head = node.head
        with Shadow(WorkflowList(), node.events, node.models) as shadow:
            assert shadow.differences() == []
            shadow.promote()
        node.settle()
        assert node.head == head
