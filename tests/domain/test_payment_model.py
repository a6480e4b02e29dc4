"""Orders that are placed, paid, cancelled and late, in any order, by processes that die.

Whatever happens, no piece is lost, and every workflow ends in the phase that its order says.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop.backends.memory import MemoryModelStore
from shop.bootstrap import MODULES
from shop.domain.customer import RegisterCustomer
from shop.domain.order import CancelOrder, Order, PayOrder, PlaceOrder, RequestedItem
from shop.domain.payment_workflow import MISSED, PaymentWorkflow
from shop.domain.product import CreateProduct, Product
from shop.eventsourcing import CommandRejected, Filter, ModelReader, Phase, Query, WorkflowList
from shop.eventsourcing.errors import AggregateNotFoundError, CheckpointMovedError
from shop.eventsourcing.workflows.models import Timer
from tests.clockwork import Crash, Node, Stage
from tests.stores import DURABLE, KINDS

ADA, MOUSE = UUID(int=1), UUID(int=2)
ORDERS = [UUID(int=n) for n in range(11, 14)]
STOCK = 9
PROCESSES = 2
DEADLINE = 60.0


@dataclass(frozen=True)
class Step:
    """Something that one of the processes does, and perhaps where it dies of it."""

    what: str
    process: int
    order: UUID
    dies_at: int | None
    after: bool


steps = st.builds(
    Step,
    what=st.sampled_from(
        ["place", "pay", "cancel", "wait", "wait", "react", "show", "fire", *["settle"] * 4]
    ),
    process=st.integers(0, PROCESSES - 1),
    order=st.sampled_from(ORDERS),
    dies_at=st.one_of(st.none(), st.integers(0, 9)),
    after=st.booleans(),
)


class Play:
    """Takes the steps, on one set of stores."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.workflow = PaymentWorkflow(deadline=DEADLINE)
        self.nodes = [stage.node(self.workflow) for _ in range(PROCESSES)]
        self.nodes[0].do(RegisterCustomer("Ada", "ada@example.org"), ADA)
        self.nodes[0].do(CreateProduct("Mouse", 1000, STOCK), MOUSE)
        for order in ORDERS[:2]:
            self.nodes[0].do(PlaceOrder(ADA, (RequestedItem(MOUSE, 2),)), order)

    def take(self, step: Step) -> None:
        node = self.nodes[step.process]
        actions: dict[str, Callable[[], object]] = {
            "place": lambda: node.do(PlaceOrder(ADA, (RequestedItem(MOUSE, 2),)), step.order),
            "pay": lambda: node.do(PayOrder(2000), step.order),
            "cancel": lambda: node.do(CancelOrder("not wanted"), step.order),
            "wait": lambda: self.stage.clock.advance(0.7 * DEADLINE),
            "react": node.react,
            "show": node.show,
            "fire": node.fire,
            "settle": node.settle,
        }
        if step.dies_at is not None:
            node.fuse.light(step.dies_at, after=step.after)
        try:
            # What the shop refuses, or what another process was faster at, is left at that.
            with suppress(CommandRejected, AggregateNotFoundError, CheckpointMovedError):
                actions[step.what]()
        except Crash:
            self.nodes[step.process] = self.stage.node(self.workflow)
        node.fuse.put_out()

    def end(self) -> Node:
        """Let all deadlines pass, and everything that follows from that happen."""
        node = self.stage.node(self.workflow)
        node.settle()
        self.stage.clock.advance(2 * DEADLINE)
        node.settle()
        return node


def check(node: Node) -> None:
    kept = 0
    for id in ORDERS:
        order = node.aggregates.load(Order, id)
        payment = node.instance(id)
        entry = node.entry(id)
        if not order.exists:
            assert (payment.exists, entry) == (False, None)
            continue
        kept += 2 * (order.status == "paid")
        cancelled = list(
            node.events.read(Query(names=["shop.order.cancelled"], aggregate_ids=[id]))
        )
        by_workflow = [it for it in cancelled if it.metadata.actor == str(payment.ref)]
        expected = {
            ("paid", False): (Phase.COMPLETED, "paid"),
            ("cancelled", False): (Phase.COMPLETED, "cancelled"),
            ("cancelled", True): (Phase.COMPENSATED, MISSED),
        }[order.status, bool(by_workflow)]
        assert (payment.phase, payment.reason) == expected
        assert (payment.timers, payment.waiting) == ({}, [])
        assert entry is not None
        assert (entry.phase, entry.reason, entry.timers) == (*expected, ())
        own = [event.name for event in node.events.read(Query(refs=[payment.ref]))]
        for once in ("workflow.timer_set", "workflow.timer_fired", "workflow.command_requested"):
            assert own.count(once) <= 1
    assert node.aggregates.load(Product, MOUSE).stock == STOCK - kept
    assert ModelReader(node.models, WorkflowList.name).find(Timer, Filter()).value == []


EXAMPLES = {"memory": 300, **dict.fromkeys(DURABLE, 20)}
"""Most in memory, where they cost least; the rest show that every store keeps what it relies on."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_workflow_ends_as_its_order_says(request: pytest.FixtureRequest, kind: str) -> None:
    new_url = KINDS[kind](request)

    @given(script=st.lists(steps, min_size=3, max_size=30))
    @settings(
        max_examples=EXAMPLES[kind], deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    def check_script(script: list[Step]) -> None:
        with ExitStack() as opened:
            play = Play(Stage(new_url(), MODULES, opened))
            for step in script:
                play.take(step)
            node = play.end()
            check(node)

            commits = len(list(node.events.commits()))
            again = play.stage.node(play.workflow, MemoryModelStore())
            again.settle()  # reading all of the log again is silent
            assert len(list(node.events.commits())) == commits
            check(again)

    check_script()
