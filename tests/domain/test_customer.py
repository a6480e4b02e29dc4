"""Customers: registered once, under an e-mail address that nobody else has."""

from __future__ import annotations

from functools import partial
from uuid import UUID, uuid4

import pytest

from shop.domain.customer import (
    MOST_ADDRESSES,
    AddAddress,
    Address,
    AddressAdded,
    AddressRemoved,
    Customer,
    CustomerRegistered,
    CustomerRenamed,
    RegisterCustomer,
    RemoveAddress,
    RenameCustomer,
)
from shop.domain.email import EmailClaimed, email_id
from shop.eventsourcing import AggregateNotFoundError, AggregateRef, Command, Query
from shop.eventsourcing.testing import Scenario
from shop.runtime import Shop
from tests.domain.threads import at_once

ada = AggregateRef("shop.customer", uuid4())
eve = AggregateRef("shop.customer", uuid4())
email = AggregateRef("shop.email", email_id("ada@example.org"))

registered = CustomerRegistered("Ada", "ada@example.org")
home = Address(uuid4(), "1 Main Street", "London", "N1 1AA", "UK")


def test_a_customer_registers_and_has_the_address_to_herself(scenario: Scenario) -> None:
    scenario.when(RegisterCustomer("Ada", "ada@example.org"), ada)
    scenario.then(ada, registered, email, EmailClaimed(ada.id))


def test_a_customer_registers_once(scenario: Scenario) -> None:
    scenario.given(ada, registered, email, EmailClaimed(ada.id))
    scenario.when(RegisterCustomer("Ada", "ada@example.com"), ada)
    scenario.then_rejected("customer-registered")


@pytest.mark.parametrize("address", ["ada@example.org", "ADA@example.org", "Ada@Example.ORG"])
def test_an_address_belongs_to_one_customer_whatever_its_case(
    scenario: Scenario, address: str
) -> None:
    scenario.when(RegisterCustomer("Ada", "ada@example.org"), ada)
    scenario.when(RegisterCustomer("Eve", address), eve).then_rejected("email-taken")
    assert not scenario.aggregates.load(Customer, eve.id).exists


def test_an_address_is_kept_as_it_was_written(scenario: Scenario) -> None:
    scenario.when(RegisterCustomer("Ada", "Ada@Example.org"), ada)
    assert scenario.aggregates.load(Customer, ada.id).email == "Ada@Example.org"


def test_threads_that_race_for_an_address_leave_one_customer_and_no_trace(shop: Shop) -> None:
    spellings = ["ada@example.org", "Ada@example.org", "ADA@EXAMPLE.ORG", "ada@Example.Org"] * 2
    racers = [Command.new(RegisterCustomer("Ada", spelling), uuid4()) for spelling in spellings]

    outcomes = at_once([partial(shop.commands.dispatch, racer) for racer in racers])

    assert sorted(outcomes) == ["done"] + ["email-taken"] * 7
    winner = racers[outcomes.index("done")]
    log = list(shop.store.read(Query()))
    assert [(event.aggregate, event.metadata.command_id) for event in log] == [
        (AggregateRef("shop.customer", winner.aggregate_id or UUID(int=0)), winner.id),
        (email, winner.id),
    ]


def test_a_customer_is_renamed(scenario: Scenario) -> None:
    scenario.given(ada, registered)
    scenario.when(RenameCustomer("Ada King"), ada).then(ada, CustomerRenamed("Ada King"))


def test_the_name_that_a_customer_has_is_no_change(scenario: Scenario) -> None:
    scenario.given(ada, registered, CustomerRenamed("Ada King"))
    scenario.when(RenameCustomer("Ada King"), ada).then_nothing()


def test_an_address_to_send_to_is_added_and_removed(scenario: Scenario) -> None:
    scenario.given(ada, registered)

    scenario.when(AddAddress(home.street, home.city, home.zip_code, home.country), ada)
    [added] = scenario.aggregates.load(Customer, ada.id).addresses
    scenario.then(
        ada, AddressAdded(Address(added.id, home.street, home.city, home.zip_code, home.country))
    )

    scenario.when(RemoveAddress(added.id), ada).then(ada, AddressRemoved(added.id))
    assert scenario.aggregates.load(Customer, ada.id).addresses == []


def test_an_address_that_is_there_is_not_added_again(scenario: Scenario) -> None:
    scenario.given(ada, registered, AddressAdded(home))
    scenario.when(AddAddress(home.street, home.city, home.zip_code, home.country), ada)
    scenario.then_nothing()


def test_an_address_that_is_not_there_cannot_be_removed(scenario: Scenario) -> None:
    scenario.given(ada, registered, AddressAdded(home), AddressRemoved(home.id))
    scenario.when(RemoveAddress(home.id), ada).then_rejected("address-unknown")


def test_the_number_of_addresses_has_a_bound(scenario: Scenario) -> None:
    addresses = [
        Address(uuid4(), f"{number} Main Street", "London", "N1 1AA", "UK")
        for number in range(MOST_ADDRESSES)
    ]
    scenario.given(ada, registered, *map(AddressAdded, addresses))
    scenario.when(AddAddress("1 Other Street", "London", "N1 1AA", "UK"), ada)
    scenario.then_rejected("addresses-exhausted")


def test_who_never_registered_cannot_change(scenario: Scenario) -> None:
    for payload in (
        RenameCustomer("Ada"),
        AddAddress("1 Main Street", "London", "N1 1AA", "UK"),
        RemoveAddress(home.id),
    ):
        scenario.when(payload, ada).then_raised(AggregateNotFoundError)
