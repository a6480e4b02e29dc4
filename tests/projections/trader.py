"""Business for read models to follow."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from random import Random
from uuid import UUID, uuid4

from shop.domain.customer import RegisterCustomer, RenameCustomer
from shop.domain.order import CancelOrder, Order, PayOrder, PlaceOrder, RequestedItem
from shop.domain.pricing import AddDiscount, SetPrice
from shop.domain.product import AdjustStock, CreateProduct, RenameProduct
from shop.eventsourcing import (
    AggregateRef,
    Command,
    CommandPayload,
    CommandRejected,
    ModelReader,
    Query,
)
from shop.runtime import Shop


class Trader:
    """Carries out commands in a shop, and reads its models when they have seen everything."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.products: list[UUID] = []
        self.customers: list[UUID] = []
        self.orders: list[UUID] = []

    def do(self, payload: CommandPayload, id: UUID) -> None:
        self.shop.commands.dispatch(Command.new(payload, id))

    def reader(self, projection: str) -> ModelReader:
        """The read models of a projection, after all that was done so far.

        Also by the shop itself: each order has its deadline by then.
        """
        head = -1
        while head != self.shop.store.head():
            head = self.shop.store.head()
            assert all(workflow.wait_for(head, 10) for workflow in self.shop.workflows.values())
        assert self.shop.wait_for(head, 10, projections=[projection])
        return self.shop.reader(projection)

    def placed(self, order: UUID) -> datetime:
        """When an order was placed."""
        [event] = self.shop.store.read(Query(refs=[AggregateRef(Order.kind, order)], limit=1))
        return event.time

    def product(self, name: str = "Mouse", price: int = 1000, stock: int = 50) -> UUID:
        """The id of a new product."""
        self.products.append(uuid4())
        self.do(CreateProduct(name, price, stock), self.products[-1])
        return self.products[-1]

    def customer(self, name: str = "Ada") -> UUID:
        """The id of a new customer."""
        self.customers.append(uuid4())
        self.do(RegisterCustomer(name, f"{uuid4()}@example.org"), self.customers[-1])
        return self.customers[-1]

    def order(self, customer: UUID, *items: tuple[UUID, int]) -> UUID:
        """The id of a new order of products, each so many times."""
        id = uuid4()
        self.do(PlaceOrder(customer, tuple(RequestedItem(*item) for item in items)), id)
        self.orders.append(id)
        return id

    def pay(self, order: UUID) -> None:
        self.do(PayOrder(self.shop.aggregates.load(Order, order).total), order)

    def cancel(self, order: UUID) -> None:
        self.do(CancelOrder("not wanted"), order)

    def trade(self, random: Random, commands: int) -> None:
        """Do business at random; what the shop refuses is left at that."""
        for n in range(3):
            self.product(f"Product {n}", random.randint(1, 1000), 20)
            self.customer(f"Customer {n}")
        for n in range(commands):
            product, customer = random.choice(self.products), random.choice(self.customers)
            other = random.choice(self.products)
            order = random.choice(self.orders) if self.orders else None
            with suppress(CommandRejected):
                match random.randrange(10):
                    case 0:
                        self.product(f"Product {n}", random.randint(1, 1000), random.randint(0, 20))
                    case 1:
                        self.do(RenameProduct(f"Product {n}"), product)
                    case 2:
                        self.do(AdjustStock(random.randint(-9, 9), "counted"), product)
                    case 3:
                        self.do(SetPrice(random.randint(1, 1000)), product)
                    case 4:
                        self.do(AddDiscount(f"Discount {n}", random.randint(1, 60)), product)
                    case 5:
                        self.do(RenameCustomer(f"Customer {n}"), customer)
                    case 6 if order:
                        self.pay(order)
                    case 7 if order:
                        self.cancel(order)
                    case _:
                        self.order(customer, (product, random.randint(1, 4)), (other, 1))
