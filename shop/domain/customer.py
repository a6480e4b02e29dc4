"""Customers: who buys, and where to."""

from __future__ import annotations

from uuid import UUID

import msgspec

from shop.domain.email import EmailAddress, email_id
from shop.domain.values import Email, Name
from shop.eventsourcing import (
    Aggregate,
    CommandPayload,
    CommandRejected,
    EventData,
    Module,
    UnitOfWork,
    aggregate,
    applies,
    command,
    event,
    new_id,
)

MOST_ADDRESSES = 100


class Address(msgspec.Struct, frozen=True):
    """Where to send an order."""

    id: UUID
    street: str
    city: str
    zip_code: str
    country: str


@event("shop.customer.registered")
class CustomerRegistered(EventData, frozen=True):
    """Somebody became a customer."""

    name: str
    email: str


@event("shop.customer.renamed")
class CustomerRenamed(EventData, frozen=True):
    """A customer has another name."""

    name: str


@event("shop.customer.address_added")
class AddressAdded(EventData, frozen=True):
    """A customer has one more address."""

    address: Address


@event("shop.customer.address_removed")
class AddressRemoved(EventData, frozen=True):
    """A customer has one address less."""

    address_id: UUID


@aggregate("shop.customer")
class Customer(Aggregate):
    """A customer, with at most :data:`MOST_ADDRESSES` addresses."""

    name: str = ""
    email: str = ""
    addresses: list[Address] = []

    def register(self, name: str, email: str) -> None:
        """Become a customer."""
        if self.exists:
            raise CommandRejected("customer-registered", f"customer {self.id} is registered")
        self.record(CustomerRegistered(name, email))

    def rename(self, name: str) -> None:
        """Take another name."""
        if name != self.name:
            self.record(CustomerRenamed(name))

    def add_address(self, address: Address) -> None:
        """Add an address; one that is there already is not added again, whatever its id."""
        if any(
            msgspec.structs.replace(known, id=address.id) == address for known in self.addresses
        ):
            return
        if len(self.addresses) >= MOST_ADDRESSES:
            raise CommandRejected(
                "addresses-exhausted", f"a customer has at most {MOST_ADDRESSES} addresses"
            )
        self.record(AddressAdded(address))

    def remove_address(self, address_id: UUID) -> None:
        """Remove an address."""
        if all(address.id != address_id for address in self.addresses):
            raise CommandRejected(
                "address-unknown", f"customer {self.id} has no address {address_id}"
            )
        self.record(AddressRemoved(address_id))

    @applies(CustomerRegistered)
    def _registered(self, data: CustomerRegistered) -> None:
        self.name = data.name
        self.email = data.email

    @applies(CustomerRenamed)
    def _renamed(self, data: CustomerRenamed) -> None:
        self.name = data.name

    @applies(AddressAdded)
    def _address_added(self, data: AddressAdded) -> None:
        self.addresses.append(data.address)

    @applies(AddressRemoved)
    def _address_removed(self, data: AddressRemoved) -> None:
        self.addresses = [known for known in self.addresses if known.id != data.address_id]


@command("shop.customer.register", creates=True)
class RegisterCustomer(CommandPayload, frozen=True):
    """Become a customer. No other customer may have the e-mail address."""

    name: Name
    email: Email


@command("shop.customer.rename")
class RenameCustomer(CommandPayload, frozen=True):
    """Give a customer another name."""

    name: Name


@command("shop.customer.add_address")
class AddAddress(CommandPayload, frozen=True):
    """Add an address to a customer's."""

    street: Name
    city: Name
    zip_code: Name
    country: Name


@command("shop.customer.remove_address")
class RemoveAddress(CommandPayload, frozen=True):
    """Remove one of a customer's addresses."""

    address_id: UUID


def _handle_register(payload: RegisterCustomer, id: UUID, work: UnitOfWork) -> None:
    work.find(Customer, id).register(payload.name, payload.email)
    work.find(EmailAddress, email_id(payload.email)).claim(id)


def _handle_rename(payload: RenameCustomer, id: UUID, work: UnitOfWork) -> None:
    work.get(Customer, id).rename(payload.name)


def _handle_add_address(payload: AddAddress, id: UUID, work: UnitOfWork) -> None:
    address = Address(new_id(), payload.street, payload.city, payload.zip_code, payload.country)
    work.get(Customer, id).add_address(address)


def _handle_remove_address(payload: RemoveAddress, id: UUID, work: UnitOfWork) -> None:
    work.get(Customer, id).remove_address(payload.address_id)


MODULE = Module(
    aggregates=(Customer,),
    handlers={
        RegisterCustomer: _handle_register,
        RenameCustomer: _handle_rename,
        AddAddress: _handle_add_address,
        RemoveAddress: _handle_remove_address,
    },
)
