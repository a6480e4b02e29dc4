"""The payment workflow: an order that is not paid in time is cancelled."""

from __future__ import annotations

from datetime import datetime, timedelta

from shop.domain.order import CancelOrder, OrderCancelled, OrderPaid, OrderPlaced
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

DEADLINE = "deadline"
"""The name of the timer."""
MISSED = "payment deadline missed"
"""The reason with which orders are cancelled."""


@aggregate("shop.payment_workflow")
class Payment(WorkflowInstance):
    """The payment of one order, whose id it has: awaited, made, or missed."""


class PaymentWorkflow(Workflow[Payment]):
    """Awaits the payment of each order, so many seconds from its placing.

    An order that was placed longer ago when the workflow first sees it has as much time from then
    on, such as one of a shop that had no deadline yet: no deadline is missed that was never set.
    """

    instances = Payment

    def __init__(self, *, deadline: float) -> None:
        self._deadline = timedelta(seconds=deadline)

    def due(self, placed: datetime, now: datetime) -> datetime:
        """When an order placed at that time is to be paid, seen first at the time ``now``."""
        due = min(placed, now) + self._deadline  # the clock that it was placed by may be ahead
        return due if due > now else now + self._deadline

    @reacts_to(OrderPlaced, begins=True)
    def placed(self, event: Event[OrderPlaced], payment: Payment, now: datetime) -> None:
        payment.set_timer(DEADLINE, self.due(event.time, now))

    @reacts_to(OrderPaid)
    def paid(self, event: Event[OrderPaid], payment: Payment, now: datetime) -> None:
        # Even when its time had come already: then cancelling it is refused.
        payment.complete("paid")

    @reacts_to(OrderCancelled)
    def cancelled(self, event: Event[OrderCancelled], payment: Payment, now: datetime) -> None:
        if payment.asked_for(event):
            payment.compensated(MISSED)
        else:
            payment.complete("cancelled")

    @when_due(DEADLINE)
    def missed(self, event: Event[TimerFired], payment: Payment, now: datetime) -> None:
        payment.compensate(MISSED)
        payment.request(CancelOrder(MISSED), payment.id)

    @when_refused(CancelOrder)
    def not_cancelled(self, event: Event[CommandRefused], payment: Payment, now: datetime) -> None:
        # Not because somebody was faster: the order's own event came before, and was the end.
        payment.fail(f"{event.data.code}: {event.data.detail}")


MODULE = Module(aggregates=(Payment,))
