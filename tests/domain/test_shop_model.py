"""The shop against a simple model of it: any commands, in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shop.backends.memory import MemoryEventStore
from shop.bootstrap import MODULES, event_registry
from shop.domain.customer import Customer, RegisterCustomer, RenameCustomer
from shop.domain.order import (
    CancelOrder,
    Order,
    OrderPaid,
    PayOrder,
    PlaceOrder,
    RequestedItem,
    Status,
)
from shop.domain.pricing import AddDiscount, Pricing, SetPrice
from shop.domain.product import AdjustStock, CreateProduct, Product, RenameProduct
from shop.eventsourcing import (
    AggregateNotFoundError,
    Aggregates,
    Command,
    CommandBus,
    CommandPayload,
    CommandRejected,
    Query,
)

# Few of each, so that they meet often.
PRODUCTS = [UUID(int=n) for n in range(1, 4)]
CUSTOMERS = [UUID(int=n) for n in range(11, 13)]
ORDERS = [UUID(int=n) for n in range(21, 24)]

products, customers, orders = map(st.sampled_from, (PRODUCTS, CUSTOMERS, ORDERS))
names = st.sampled_from(["this", "that"])
prices = st.integers(1, 1000)
emails = st.sampled_from(["ada@example.org", "ADA@example.org", "eve@example.org"])
# How far off the price is that comes along with an order, if any does.
shown = st.sampled_from([None, None, None, 0, 0, 1])
NOT_FOUND = "not-found"


@dataclass
class KnownProduct:
    name: str
    price: int
    stock: int
    supplied: int
    """What came into the stock, less what left it, orders aside."""
    off: int = 0
    """Percent off the price."""

    @property
    def current_price(self) -> int:
        hundredths = self.price * max(0, 100 - self.off)
        whole, rest = divmod(hundredths, 100)
        return whole + (rest >= 50)


@dataclass
class KnownOrder:
    quantities: dict[UUID, int]
    total: int
    status: Status = "open"


@dataclass
class KnownShop:
    products: dict[UUID, KnownProduct] = field(default_factory=dict)
    customers: dict[UUID, str] = field(default_factory=dict)
    emails: set[str] = field(default_factory=set)
    orders: dict[UUID, KnownOrder] = field(default_factory=dict)


class ShopMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryEventStore(event_registry())
        # So small a cache that aggregates are loaded with and without it.
        self.aggregates = Aggregates(self.store, cache_size=2)
        self.commands = CommandBus(self.store, self.aggregates, MODULES)
        self.known = KnownShop()

    def done(
        self, payload: CommandPayload, id: UUID, refusals: set[str], *, changes: bool = True
    ) -> bool:
        """Whether a command is carried out: unless there are reasons to refuse it.

        Then it is refused for one of them. It writes when it is to change something, only then.
        """
        head = self.store.head()
        try:
            result = self.commands.dispatch(Command.new(payload, id))
        except (CommandRejected, AggregateNotFoundError) as error:
            code = error.code if isinstance(error, CommandRejected) else NOT_FOUND
            assert code in refusals
            assert self.store.head() == head
            return False
        assert not refusals
        assert bool(result.events) == changes
        assert self.store.head() == head + len(result.events)
        return True

    @initialize(stock=st.integers(5, 20))
    def open(self, stock: int) -> None:
        """Begin with something to pay and to cancel."""
        for id in PRODUCTS[:2]:
            self.create_product(id, "this", 999, stock)
        self.register(CUSTOMERS[0], "this", "ada@example.org")
        for id in ORDERS[:2]:
            self.place(id, CUSTOMERS[0], [(product, 2, None) for product in PRODUCTS[:2]])

    @rule(id=products, name=names, price=prices, stock=st.integers(0, 9))
    def create_product(self, id: UUID, name: str, price: int, stock: int) -> None:
        refusals = {"product-exists"} if id in self.known.products else set()
        if self.done(CreateProduct(name, price, stock), id, refusals):
            self.known.products[id] = KnownProduct(name, price, stock, supplied=stock)

    @rule(id=products, name=names)
    def rename_product(self, id: UUID, name: str) -> None:
        product = self.known.products.get(id)
        changes = product is not None and product.name != name
        if self.done(RenameProduct(name), id, missing(product), changes=changes):
            self.known.products[id].name = name

    @rule(id=products, quantity=st.integers(-9, 9))
    def adjust_stock(self, id: UUID, quantity: int) -> None:
        product = self.known.products.get(id)
        refusals = missing(product)
        if product is not None and product.stock + quantity < 0:
            refusals = {"stock-insufficient"}
        if self.done(AdjustStock(quantity, "counted"), id, refusals, changes=quantity != 0):
            self.known.products[id].stock += quantity
            self.known.products[id].supplied += quantity

    @rule(id=products, price=prices)
    def set_price(self, id: UUID, price: int) -> None:
        product = self.known.products.get(id)
        changes = product is not None and product.price != price
        if self.done(SetPrice(price), id, missing(product), changes=changes):
            self.known.products[id].price = price

    @rule(id=products, percent=st.integers(1, 100))
    def add_discount(self, id: UUID, percent: int) -> None:
        if self.done(AddDiscount("off", percent), id, missing(self.known.products.get(id))):
            self.known.products[id].off += percent

    @rule(id=customers, name=names, email=emails)
    def register(self, id: UUID, name: str, email: str) -> None:
        refusals = {"customer-registered"} if id in self.known.customers else set()
        if email.lower() in self.known.emails:
            refusals.add("email-taken")
        if self.done(RegisterCustomer(name, email), id, refusals):
            self.known.customers[id] = name
            self.known.emails.add(email.lower())

    @rule(id=customers, name=names)
    def rename_customer(self, id: UUID, name: str) -> None:
        known = self.known.customers.get(id)
        if self.done(RenameCustomer(name), id, missing(known), changes=known != name):
            self.known.customers[id] = name

    @rule(
        id=orders,
        customer=customers,
        wanted=st.lists(st.tuples(products, st.integers(1, 3), shown), min_size=1, max_size=3),
    )
    def place(self, id: UUID, customer: UUID, wanted: list[tuple[UUID, int, int | None]]) -> None:
        refusals = set() if customer in self.known.customers else {"customer-unknown"}
        refusals |= {"order-placed"} if id in self.known.orders else set()
        quantities: dict[UUID, int] = {}
        items = []
        for product_id, quantity, off in wanted:
            quantities[product_id] = quantities.get(product_id, 0) + quantity
            product = self.known.products.get(product_id)
            if product is None:
                refusals.add("product-unknown")
            elif off:
                refusals.add("price-changed")
            price = product.current_price if product else 0
            items.append(RequestedItem(product_id, quantity, None if off is None else price + off))
        total = 0
        for product_id, quantity in quantities.items():
            product = self.known.products.get(product_id)
            if product is not None and product.stock < quantity:
                refusals.add("stock-insufficient")
            total += product.current_price * quantity if product else 0
        if self.done(PlaceOrder(customer, tuple(items)), id, refusals):
            self.known.orders[id] = KnownOrder(quantities, total)
            for product_id, quantity in quantities.items():
                self.known.products[product_id].stock -= quantity

    @rule(id=orders, off=st.sampled_from([0, 0, 1]))
    def pay(self, id: UUID, off: int) -> None:
        order = self.known.orders.get(id)
        refusals = closed(order) | ({"amount-wrong"} if off else set())
        if self.done(PayOrder((order.total if order else 0) + off), id, refusals):
            self.known.orders[id].status = "paid"

    @rule(id=orders)
    def cancel(self, id: UUID) -> None:
        order = self.known.orders.get(id)
        if self.done(CancelOrder("not wanted"), id, closed(order)):
            self.known.orders[id].status = "cancelled"
            for product_id, quantity in self.known.orders[id].quantities.items():
                self.known.products[product_id].stock += quantity

    @invariant()
    def aggregates_are_as_known(self) -> None:
        for id, product in self.known.products.items():
            loaded = self.aggregates.load(Product, id)
            assert (loaded.name, loaded.stock) == (product.name, product.stock)
            pricing = self.aggregates.load(Pricing, id)
            assert (pricing.price, pricing.current_price) == (product.price, product.current_price)
        for id, name in self.known.customers.items():
            assert self.aggregates.load(Customer, id).name == name
        for id, order in self.known.orders.items():
            placed = self.aggregates.load(Order, id)
            assert (placed.total, placed.status) == (order.total, order.status)

    @invariant()
    def no_piece_is_lost_or_sold_twice(self) -> None:
        for id, product in self.known.products.items():
            sold = sum(
                item.quantity
                for order in (self.aggregates.load(Order, id) for id in self.known.orders)
                if order.status != "cancelled"
                for item in order.items
                if item.product_id == id
            )
            assert self.aggregates.load(Product, id).stock == product.supplied - sold
            assert product.supplied >= sold

    @invariant()
    def revenue_is_what_was_paid(self) -> None:
        paid = [event.data for event in self.store.read(Query(names=["shop.order.paid"]))]
        revenue = sum(data.amount for data in paid if isinstance(data, OrderPaid))
        orders = self.known.orders.values()
        assert revenue == sum(order.total for order in orders if order.status == "paid")

    def teardown(self) -> None:
        self.store.close()


def missing(known: object | None) -> set[str]:
    return {NOT_FOUND} if known is None else set()


def closed(order: KnownOrder | None) -> set[str]:
    """Why an order can be neither paid nor cancelled."""
    if order is None:
        return {NOT_FOUND}
    return set() if order.status == "open" else {f"order-{order.status}"}


TestShop = ShopMachine.TestCase
TestShop.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
