"""What commands take, and what no handler ever sees."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from shop.domain.customer import AddAddress, RegisterCustomer, RenameCustomer
from shop.domain.order import CancelOrder, PayOrder, PlaceOrder, RequestedItem
from shop.domain.pricing import AddDiscount, SetPrice
from shop.domain.product import AdjustStock, CreateProduct, RenameProduct
from shop.eventsourcing import AggregateRef, CommandPayload, PayloadError, Registry
from shop.eventsourcing.testing import Scenario

Texts = Callable[[str], CommandPayload]
Numbers = Callable[[int], CommandPayload]

NAMES: dict[str, Texts] = {
    "create product /name": lambda text: CreateProduct(text, 2999, 50),
    "rename product /name": RenameProduct,
    "add discount /label": lambda text: AddDiscount(text, 10),
    "register /name": lambda text: RegisterCustomer(text, "ada@example.org"),
    "rename customer /name": RenameCustomer,
    "add address /street": lambda text: AddAddress(text, "London", "N1", "UK"),
    "add address /city": lambda text: AddAddress("1 Main Street", text, "N1", "UK"),
    "add address /zip_code": lambda text: AddAddress("1 Main Street", "London", text, "UK"),
    "add address /country": lambda text: AddAddress("1 Main Street", "London", "N1", text),
}
REASONS: dict[str, Texts] = {
    "adjust stock /reason": lambda text: AdjustStock(1, text),
    "cancel order /reason": CancelOrder,
}
LINES = {**NAMES, **REASONS}

BLANK = ["", " ", "\t", "\u2003", " \xa0 "]
CONTROLLED = ["a\0b", "\0", "a\tb", "a\nb", "a\n", "\x1bc", "a\x7f", "a\x85b", "a\x9fb"]
CONTROLLED += ["a\u2028b", "a\u2029b"]

NO_EMAIL = ["", "ada", "@example.org", "ada@", "a@b@c", "a b@c", "a@b c", "a@b\n", "a\0@b"]
NO_EMAIL += ["a@\u2028", "a" * 250 + "@b.de"]

NUMBERS: dict[str, tuple[Numbers, int, int]] = {
    "create product /price": (lambda n: CreateProduct("Mouse", n, 50), 1, 10**10),
    "create product /stock": (lambda n: CreateProduct("Mouse", 2999, n), 0, 10**9),
    "set price /price": (SetPrice, 1, 10**10),
    "add discount /percent": (lambda n: AddDiscount("Launch", n), 1, 100),
    "adjust stock /quantity": (lambda n: AdjustStock(n, "counted"), -(10**9), 10**9),
    "pay order /amount": (PayOrder, 0, 10**18),
    "place order /items/0/quantity": (
        lambda n: PlaceOrder(uuid4(), (RequestedItem(uuid4(), n),)),
        1,
        10**6,
    ),
    "place order /items/0/price": (
        lambda n: PlaceOrder(uuid4(), (RequestedItem(uuid4(), 1, n),)),
        0,
        10**18,
    ),
}


@pytest.mark.parametrize("field", LINES)
@pytest.mark.parametrize(
    "text", ["x", "Ünï-çødé 🐭", "ねずみ", "فأرة", "two  words", "O'Neill\xa0& Co"]
)
def test_a_line_of_any_language_is_taken(
    commands: Registry[CommandPayload], field: str, text: str
) -> None:
    payload = LINES[field](text)
    assert commands.decode(payload.wire.name, 1, commands.encode(payload)) == payload


@pytest.mark.parametrize("field", LINES)
@pytest.mark.parametrize("text", [*BLANK, *CONTROLLED], ids=ascii)
def test_empty_text_and_control_characters_are_refused(
    commands: Registry[CommandPayload], field: str, text: str
) -> None:
    assert_refused(commands, LINES[field](text), field)


@pytest.mark.parametrize("field", LINES)
def test_text_has_a_bound(commands: Registry[CommandPayload], field: str) -> None:
    most = 200 if field in NAMES else 500
    commands.encode(LINES[field]("🐭" * most))
    assert_refused(commands, LINES[field]("🐭" * (most + 1)), field)


@pytest.mark.parametrize("field", LINES)
def test_half_a_character_is_refused(commands: Registry[CommandPayload], field: str) -> None:
    with pytest.raises(PayloadError):
        commands.encode(LINES[field]("\ud800"))


@pytest.mark.parametrize("field", NUMBERS)
def test_numbers_have_bounds(commands: Registry[CommandPayload], field: str) -> None:
    make, least, most = NUMBERS[field]
    commands.encode(make(least))
    commands.encode(make(most))
    assert_refused(commands, make(least - 1), field)
    assert_refused(commands, make(most + 1), field)


@pytest.mark.parametrize(
    "address", ["ada@example.org", "a@b", "Ada.King+shop@example.org", "ö@ü.de"]
)
def test_an_email_address_has_a_name_and_a_place(
    commands: Registry[CommandPayload], address: str
) -> None:
    commands.encode(RegisterCustomer("Ada", address))


@pytest.mark.parametrize("address", NO_EMAIL, ids=lambda address: ascii(address[:20]))
def test_what_is_no_email_address_is_refused(
    commands: Registry[CommandPayload], address: str
) -> None:
    assert_refused(commands, RegisterCustomer("Ada", address), "register /email")


def test_an_order_has_an_item(commands: Registry[CommandPayload]) -> None:
    assert_refused(commands, PlaceOrder(uuid4(), ()), "place order /items")


def test_the_items_of_an_order_have_a_bound(commands: Registry[CommandPayload]) -> None:
    item = RequestedItem(uuid4(), 1)
    commands.encode(PlaceOrder(uuid4(), (item,) * 100))
    assert_refused(commands, PlaceOrder(uuid4(), (item,) * 101), "place order /items")


def test_the_greatest_order_can_be_paid(commands: Registry[CommandPayload]) -> None:
    commands.encode(PayOrder(100 * 10**6 * 10**10))  # items, pieces, price


def test_a_bad_value_reaches_no_handler_and_leaves_no_trace(scenario: Scenario) -> None:
    mouse = AggregateRef("shop.product", uuid4())
    scenario.when(CreateProduct(" ", 2999, 50), mouse).then_raised(PayloadError)
    scenario.when(CreateProduct("Mouse", 2999, 50), mouse)
    assert [event.position for event in scenario.result.events] == [1, 2]


def assert_refused(commands: Registry[CommandPayload], payload: CommandPayload, field: str) -> None:
    """It is refused, and the refusal points at the field, which ends a command's description."""
    with pytest.raises(PayloadError) as refusal:
        commands.encode(payload)
    assert refusal.value.path == field[field.index("/") :]
