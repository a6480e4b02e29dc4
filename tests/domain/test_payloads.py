"""The payloads of events and commands on the wire: what others rely on, and what comes back."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from shop.bootstrap import MODULES, event_registry
from shop.eventsourcing import CommandPayload, PayloadError, Registry
from shop.eventsourcing.events.registry import Payload

EVENTS = event_registry()
COMMANDS: Registry[CommandPayload] = Registry(
    payload for module in MODULES for payload in module.handlers
)
REGISTRIES: tuple[Registry[Any], ...] = (EVENTS, COMMANDS)

EVENT_FIELDS = {
    "shop.product.created": "name stock",
    "shop.product.renamed": "name",
    "shop.product.stock_adjusted": "quantity reason",
    "shop.pricing.set": "price",
    "shop.pricing.discount_added": "label percent",
    "shop.customer.registered": "name email",
    "shop.customer.renamed": "name",
    "shop.customer.address_added": "address",
    "shop.customer.address_removed": "address_id",
    "shop.email.claimed": "customer_id",
    "shop.order.placed": "customer_id items",
    "shop.order.paid": "amount",
    "shop.order.cancelled": "reason",
}
COMMAND_FIELDS = {
    "shop.product.create": "name price stock",
    "shop.product.rename": "name",
    "shop.product.adjust_stock": "quantity reason",
    "shop.pricing.set_price": "price",
    "shop.pricing.add_discount": "label percent",
    "shop.customer.register": "name email",
    "shop.customer.rename": "name",
    "shop.customer.add_address": "street city zip_code country",
    "shop.customer.remove_address": "address_id",
    "shop.order.place": "customer_id items",
    "shop.order.pay": "amount",
    "shop.order.cancel": "reason",
}
CREATING = {"shop.product.create", "shop.customer.register", "shop.order.place"}

INT64 = 2**63

PayloadT = TypeVar("PayloadT", bound=Payload)


def of_the_shop(registry: Registry[PayloadT]) -> list[type[PayloadT]]:
    """Its own payloads: what else was added to the program is not pinned here."""
    return [cls for cls in registry if cls.wire.name.startswith("shop.")]


def fields(registry: Registry[Any]) -> dict[str, str]:
    return {cls.wire.name: " ".join(cls.__struct_fields__) for cls in of_the_shop(registry)}


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, within its constraints."""
    match kind:
        case inspect.Metadata(type=described):
            return values(described)
        case inspect.StrType(pattern=None):
            return st.text()
        case inspect.StrType(pattern=str(pattern), max_length=most):
            texts = st.from_regex(pattern)
            return texts.filter(lambda text: most is None or len(text) <= most)
        case inspect.IntType(ge=least, le=most):
            return st.integers(
                -INT64 if least is None else least, INT64 - 1 if most is None else most
            )
        case inspect.UUIDType():
            return st.uuids()
        case inspect.NoneType():
            return st.none()
        case inspect.UnionType(types=types):
            return st.one_of(*map(values, types))
        case inspect.VarTupleType(item_type=item, min_length=least):
            return st.lists(values(item), min_size=least or 0, max_size=4).map(tuple)
        case inspect.StructType(cls=cls):
            return structs(cls)
    raise NotImplementedError(f"no values are known of {kind}")


def structs(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return st.builds(cls, **{field.name: values(field.type) for field in info.fields})


def test_events_have_the_names_and_fields_that_others_rely_on() -> None:
    assert fields(EVENTS) == EVENT_FIELDS


def test_commands_have_the_names_and_fields_that_others_rely_on() -> None:
    assert fields(COMMANDS) == COMMAND_FIELDS
    assert {cls.wire.name for cls in of_the_shop(COMMANDS) if cls.creates} == CREATING


@pytest.mark.parametrize(
    ("registry", "cls"),
    [
        pytest.param(registry, cls, id=cls.wire.name)
        for registry in REGISTRIES
        for cls in of_the_shop(registry)
    ],
)
@given(data=st.data())
def test_every_payload_comes_back_from_json_as_it_was(
    registry: Registry[Any], cls: type[Payload], data: st.DataObject
) -> None:
    payload = data.draw(structs(cls))
    assert registry.decode(cls.wire.name, cls.wire.version, registry.encode(payload)) == payload


@pytest.mark.parametrize("cls", of_the_shop(COMMANDS), ids=lambda cls: cls.wire.name)
def test_a_command_with_a_field_too_many_is_refused(cls: type[CommandPayload]) -> None:
    with pytest.raises(PayloadError, match="unknown field `surplus`"):
        COMMANDS.decode(cls.wire.name, 1, b'{"surplus": 1}')
