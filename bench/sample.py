"""Events as a shop in business writes them, to fill logs with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from time import perf_counter
from uuid import UUID

from shop.domain.customer import Address, AddressAdded, CustomerRegistered
from shop.domain.email import EmailClaimed, email_id
from shop.domain.order import LineItem, OrderPaid, OrderPlaced
from shop.domain.pricing import PricingSet
from shop.domain.product import CreateProduct, ProductCreated, StockAdjusted
from shop.eventsourcing import (
    AggregateRef,
    Command,
    Event,
    EventData,
    EventStore,
    Metadata,
    new_id,
)

_COMMIT = 5_000
_ORDERS_OF_A_CUSTOMER = 4


def business() -> Iterator[Event[EventData]]:
    """An endless log: products and customers come, and each customer orders, mostly paying.

    All versions run on, and every event carries its command's and its request's id.
    """
    versions: defaultdict[AggregateRef, int] = defaultdict(int)

    def happened(kind: str, id: UUID, data: EventData, why: Metadata) -> Event[EventData]:
        ref = AggregateRef(kind, id)
        versions[ref] += 1
        return Event.new(
            ref, version=versions[ref], data=data, metadata=why, time=datetime.now(UTC)
        )

    while True:
        versions.clear()  # these aggregates are done with
        product, customer, why = new_id(), new_id(), _why()
        address = f"{customer}@example.com"
        yield happened("shop.product", product, ProductCreated("Wireless Mouse", 1_000), why)
        yield happened("shop.pricing", product, PricingSet(2_999), why)
        why = _why()
        yield happened("shop.customer", customer, CustomerRegistered("Ada", address), why)
        yield happened("shop.email", email_id(address), EmailClaimed(customer), why)
        for number in range(_ORDERS_OF_A_CUSTOMER):
            order, why = new_id(), _why()
            items = (LineItem(product, "Wireless Mouse", 2_999, 2),)
            yield happened("shop.order", order, OrderPlaced(customer, items), why)
            reserved = StockAdjusted(-2, f"order {order} placed")
            yield happened("shop.product", product, reserved, why)
            if number:
                yield happened("shop.order", order, OrderPaid(5_998), _why())


def create() -> Command[CreateProduct]:
    """A command as over HTTP in the other benchmarks: two events, in one commit."""
    return Command.new(CreateProduct("Wireless Mouse", 2_999, 50))


def adjustments(of_each: int) -> Iterator[Event[EventData]]:
    """An endless log of stock adjustments, so many of each product."""
    while True:
        product = AggregateRef("shop.product", new_id())
        for version in range(1, of_each + 1):
            yield Event.new(
                product, version=version, data=StockAdjusted(1, "delivered"), metadata=_why()
            )


def removals(of_each: int) -> Iterator[Event[EventData]]:
    """An endless log of customers moving house, so many events of each, that no model shows."""
    while True:
        customer = AggregateRef("shop.customer", new_id())
        for version in range(1, of_each + 1):
            address = Address(new_id(), "12 Main Street", "Springfield", "12345", "US")
            yield Event.new(customer, version=version, data=AddressAdded(address), metadata=_why())


def history(id: UUID, size: int) -> Sequence[Event[EventData]]:
    """The events of one product."""
    ref = AggregateRef("shop.product", id)
    created = Event.new(ref, version=1, data=ProductCreated("Wireless Mouse", 1), metadata=_why())
    return [created] + [
        Event.new(ref, version=version, data=StockAdjusted(1, "delivered"), metadata=_why())
        for version in range(2, size + 1)
    ]


def fill(store: EventStore, events: Iterator[Event[EventData]], size: int) -> float:
    """Append so many events, in big commits; return the seconds it took, without making them."""
    seconds = 0.0
    for done in range(0, size, _COMMIT):
        ready = list(islice(events, min(_COMMIT, size - done)))
        began = perf_counter()
        store.append(ready)
        seconds += perf_counter() - began
    return seconds


def _why() -> Metadata:
    request = new_id()
    return Metadata(command_id=new_id(), correlation_id=request, causation_id=request)
