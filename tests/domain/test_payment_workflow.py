"""The payment workflow: whoever does what when, it and its order agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shop.backends.memory import MemoryModelStore
from shop.bootstrap import MODULES
from shop.domain.customer import RegisterCustomer
from shop.domain.order import CancelOrder, Order, OrderPlaced, PayOrder, PlaceOrder, RequestedItem
from shop.domain.payment_workflow import DEADLINE, MISSED, Payment, PaymentWorkflow
from shop.domain.product import CreateProduct, Product
from shop.eventsourcing import (
    AggregateRef,
    CommandRefused,
    CommandRejected,
    Event,
    Phase,
    Query,
    TimerFired,
)
from shop.eventsourcing.testing import aggregate_after
from shop.eventsourcing.workflows.instance import CommandRequested, PhaseChanged, TimerSet
from tests.clockwork import Node, Stage
from tests.stores import KINDS

ada, mouse = uuid4(), uuid4()
WEEK = 7 * 24 * 3600.0


@pytest.fixture(params=KINDS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with ExitStack() as opened:
        yield Stage(KINDS[request.param](request)(), MODULES, opened)


@pytest.fixture
def workflow() -> PaymentWorkflow:
    return PaymentWorkflow(deadline=1800.0)


@pytest.fixture
def node(stage: Stage, workflow: PaymentWorkflow) -> Node:
    """Five mice, and Ada."""
    node = stage.node(workflow)
    node.do(RegisterCustomer("Ada", "ada@example.org"), ada)
    node.do(CreateProduct("Mouse", 1000, 5), mouse)
    return node


def placed(node: Node) -> UUID:
    """An order of two mice, which the workflow has taken note of."""
    order = uuid4()
    node.do(PlaceOrder(ada, (RequestedItem(mouse, 2),)), order)
    node.settle()
    return order


def outcome(node: Node, order: UUID) -> tuple[str, Phase | None, str, int]:
    """The status of the order, phase and reason of its workflow, and the stock."""
    payment = node.instance(order)
    assert payment.timers == {}
    entry = node.entry(order)
    assert entry is not None
    assert (entry.phase, entry.reason, entry.timers) == (payment.phase, payment.reason, ())
    load = node.aggregates.load
    return load(Order, order).status, payment.phase, payment.reason, load(Product, mouse).stock


COMPLETED, COMPENSATED = Phase.COMPLETED, Phase.COMPENSATED


class TestOneOrder:
    def test_paid_in_time_it_is_completed(self, stage: Stage, node: Node) -> None:
        order = placed(node)
        stage.clock.advance(1790)
        node.do(PayOrder(2000), order)
        node.settle()
        stage.clock.advance(WEEK)
        node.settle()
        assert outcome(node, order) == ("paid", COMPLETED, "paid", 3)
        assert node.recorded(TimerFired) == []

    def test_unpaid_it_is_cancelled_at_its_deadline_and_the_stock_is_back(
        self, stage: Stage, node: Node
    ) -> None:
        order = placed(node)
        stage.clock.advance(1790)
        node.settle()
        assert node.aggregates.load(Order, order).status == "open"
        stage.clock.advance(11)
        node.settle()
        assert outcome(node, order) == ("cancelled", COMPENSATED, MISSED, 5)
        [cancelled] = node.events.read(Query(names=["shop.order.cancelled"]))
        assert cancelled.metadata.actor == f"shop.payment_workflow/{order}"
        [began] = node.events.read(Query(names=["shop.order.placed"]))
        assert cancelled.metadata.correlation_id == began.metadata.correlation_id
        with pytest.raises(CommandRejected, match="order-cancelled"):
            node.do(PayOrder(2000), order)

    def test_cancelled_by_the_customer_it_is_completed(self, stage: Stage, node: Node) -> None:
        order = placed(node)
        node.do(CancelOrder(MISSED), order)  # whatever reason he gives
        node.settle()
        stage.clock.advance(WEEK)
        node.settle()
        assert outcome(node, order) == ("cancelled", COMPLETED, "cancelled", 5)
        assert node.recorded(TimerFired) == []

    @pytest.mark.parametrize("steps", range(4))
    def test_paid_at_the_moment_of_the_deadline_one_of_the_two_happens(
        self, stage: Stage, node: Node, steps: int
    ) -> None:
        """The payment comes after so many steps of what the deadline leads to."""
        order = placed(node)
        stage.clock.advance(1801)
        for step in (node.fire, node.react, node.react)[:steps]:
            step()
        try:
            node.do(PayOrder(2000), order)
        except CommandRejected:
            expected = ("cancelled", COMPENSATED, MISSED, 5)
        else:
            expected = ("paid", COMPLETED, "paid", 3)
        assert (expected[0] == "paid") == (steps < 3)
        node.settle()
        assert outcome(node, order) == expected

    @pytest.mark.parametrize("steps", range(3))
    def test_cancelled_by_the_customer_at_that_moment_it_is_not_compensated(
        self, stage: Stage, node: Node, steps: int
    ) -> None:
        order = placed(node)
        stage.clock.advance(1801)
        for step in (node.fire, node.react)[:steps]:
            step()
        node.do(CancelOrder("not wanted"), order)
        node.settle()
        assert outcome(node, order) == ("cancelled", COMPLETED, "cancelled", 5)


class TestDeadlines:
    def test_it_counts_from_the_placing(self, stage: Stage, node: Node) -> None:
        order = uuid4()
        node.do(PlaceOrder(ada, (RequestedItem(mouse, 2),)), order)
        [event] = node.events.read(Query(names=["shop.order.placed"]))
        stage.clock.advance(600)  # before the workflow comes to it
        node.settle()
        assert node.instance(order).timers == {DEADLINE: event.time + timedelta(seconds=1800)}

    def test_orders_of_before_there_was_a_deadline_have_as_much_time_as_new_ones(
        self, stage: Stage, node: Node
    ) -> None:
        orders = [uuid4() for _ in range(2)]
        for order in orders:
            node.do(PlaceOrder(ada, (RequestedItem(mouse, 2),)), order)
        node.do(PayOrder(2000), orders[0])
        stage.clock.advance(WEEK)
        node.settle()
        assert node.instance(orders[0]).phase == Phase.COMPLETED
        left = node.instance(orders[1]).timers[DEADLINE] - stage.clock.now()
        assert timedelta(seconds=1790) < left <= timedelta(seconds=1800)
        stage.clock.advance(1801)
        node.settle()
        assert outcome(node, orders[1]) == ("cancelled", COMPENSATED, MISSED, 3)

    def test_to_change_it_concerns_orders_placed_from_then_on(
        self, stage: Stage, node: Node
    ) -> None:
        order = placed(node)
        due = node.instance(order).timers
        stage.node(PaymentWorkflow(deadline=5)).settle()
        assert node.instance(order).timers == due

    def test_clocks_that_differ_by_seconds_cancel_nothing_too_early(self) -> None:
        workflow = PaymentWorkflow(deadline=2.0)
        now = datetime(2026, 7, 1, tzinfo=UTC)
        behind, ahead = now - timedelta(seconds=5), now + timedelta(seconds=5)
        assert workflow.due(behind, now) == now + timedelta(seconds=2)
        assert workflow.due(ahead, now) == now + timedelta(seconds=2)


class TestReadingTheLogAgain:
    def test_it_sends_no_command_and_fires_no_timer(
        self, stage: Stage, node: Node, workflow: PaymentWorkflow
    ) -> None:
        paid, missed = placed(node), placed(node)
        node.do(PayOrder(2000), paid)
        node.settle()
        stage.clock.advance(1801)
        node.settle()
        commits = len(list(node.events.commits()))
        again = stage.node(workflow, MemoryModelStore())  # without checkpoint and read models
        again.settle()
        assert len(list(node.events.commits())) == commits
        assert outcome(again, paid) == ("paid", COMPLETED, "paid", 3)
        assert outcome(again, missed) == ("cancelled", COMPENSATED, MISSED, 3)


class TestHandlers:
    """What they record, without anything that would carry it out."""

    NOW = datetime(2026, 7, 1, tzinfo=UTC)
    DUE = NOW + timedelta(seconds=1800)

    def test_an_order_placed_sets_its_deadline(self, workflow: PaymentWorkflow) -> None:
        payment = Payment(uuid4())
        ref = AggregateRef(Order.kind, payment.id)
        event = Event.new(ref, version=1, data=OrderPlaced(ada, ()), time=self.NOW)
        workflow.react(event, payment, self.NOW)
        assert payment.changes == [PhaseChanged(Phase.RUNNING), TimerSet(DEADLINE, self.DUE)]

    def test_a_deadline_missed_has_the_order_cancelled(self, workflow: PaymentWorkflow) -> None:
        payment = aggregate_after(
            Payment,
            PhaseChanged(Phase.RUNNING),
            TimerSet(DEADLINE, self.DUE),
            TimerFired(DEADLINE),
        )
        event = Event.new(payment.ref, version=3, data=TimerFired(DEADLINE))
        workflow.react(event, payment, self.DUE)
        [compensating, requested] = payment.changes
        assert compensating == PhaseChanged(Phase.COMPENSATING, MISSED)
        assert isinstance(requested, CommandRequested)
        wanted = (requested.command, requested.aggregate_id, requested.payload)
        assert wanted == ("shop.order.cancel", payment.id, {"reason": MISSED})

    def test_a_refusal_that_no_event_of_the_order_explains_is_a_failure(
        self, workflow: PaymentWorkflow
    ) -> None:
        payment = aggregate_after(
            Payment, PhaseChanged(Phase.RUNNING), PhaseChanged(Phase.COMPENSATING, MISSED)
        )
        refused = CommandRefused(uuid4(), "shop.order.cancel", "not-found", "it says why")
        workflow.react(Event.new(payment.ref, version=3, data=refused), payment, self.NOW)
        assert (payment.phase, payment.reason) == (Phase.FAILED, "not-found: it says why")
