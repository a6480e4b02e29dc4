"""The read of customers, from the log: no projection has all of one."""

from __future__ import annotations

from uuid import UUID

import msgspec

from shop.application import Answer, NoQuery, Read
from shop.domain.customer import Address, Customer
from shop.runtime import Shop


class CustomerDetails(msgspec.Struct, frozen=True):
    """A customer."""

    id: UUID
    name: str
    email: str
    addresses: list[Address]


def get_customer(shop: Shop, query: NoQuery, id: UUID) -> Answer:
    """One customer."""
    customer = shop.aggregates.load(Customer, id)
    if not customer.exists:
        return Answer(None)
    return Answer(CustomerDetails(id, customer.name, customer.email, customer.addresses))


READS = (
    Read(
        path="/customers/<id>",
        answer=get_customer,
        shape=CustomerDetails,
        aggregate=Customer.kind,
    ),
)
