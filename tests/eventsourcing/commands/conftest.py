"""A command bus on each kind of store, and what an account of the bank holds."""

from __future__ import annotations

import pytest

from shop.eventsourcing import AggregateRef, Aggregates, CommandBus
from tests.eventsourcing.bank import Account
from tests.eventsourcing.conftest import Stores, command_bus


@pytest.fixture
def commands(stores: Stores) -> CommandBus:
    return command_bus(stores)


def balance(stores: Stores, account: AggregateRef) -> int:
    return Aggregates(stores.events).load(Account, account.id).balance
