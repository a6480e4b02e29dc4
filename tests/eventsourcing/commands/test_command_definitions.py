"""Commands, and modules that could not be run: told where they are made."""

from __future__ import annotations

from typing import Any

import pytest

from shop.eventsourcing import (
    Aggregate,
    Command,
    CommandPayload,
    EventData,
    Module,
    aggregate,
    applies,
    command,
    event,
)
from tests.eventsourcing.bank import (
    BANK,
    Account,
    Open,
    Opened,
    account,
    open_account,
)
from tests.eventsourcing.conftest import Stores, command_bus

ADA = account()


def test_a_command_must_be_named_after_an_aggregate(memory_stores: Stores) -> None:
    @command("bank.acount.open", creates=True)
    class Misnamed(CommandPayload, frozen=True):
        pass

    module = Module(BANK.aggregates, {Misnamed: open_account})
    with pytest.raises(ValueError, match=r"^bank\.acount\.open .* \(near: bank\.account\)$"):
        command_bus(memory_stores, module)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"aggregate_id": str(ADA.id)}, "aggregate_id must be of type UUID"),
        ({"id": str(ADA.id)}, "id must be of type UUID"),
        ({"correlation_id": "request-1"}, "correlation_id must be of type UUID"),
        ({"causation_id": "request-1"}, "causation_id must be of type UUID"),
        ({"actor": 7}, "actor must be of type str"),
        ({"expected_version": "1"}, "expected_version must be of type int"),
        ({"payload": Open}, "is no command payload: an object of a class with @command"),
        ({"payload": Opened("Ada")}, "is no command payload"),
        ({"payload": {"owner": "Ada"}}, "is no command payload"),
        ({"payload": CommandPayload()}, "is no command payload"),
    ],
    ids=lambda value: str(*value) if isinstance(value, dict) else "",
)
def test_a_command_of_wrong_types_is_refused_where_it_is_made(
    arguments: dict[str, Any], told: str
) -> None:
    """Its sender is told, and not whoever carries it out."""
    with pytest.raises(TypeError, match=told):
        Command.new(**{"payload": Open("Ada"), **arguments})


def test_the_aggregates_of_a_module_have_names() -> None:
    class Unnamed(Aggregate):
        pass

    with pytest.raises(TypeError, match="Unnamed has no name: decorate it with @aggregate"):
        Module((Unnamed,))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"aggregates": Account}, "aggregates takes a collection, such as a list, not .*Account"),
        ({"handlers": {Opened: open_account}}, "handlers are of commands, and Opened is none"),
    ],
)
def test_a_module_has_aggregates_and_commands(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        Module(**parts)


@event("bank.forgotten")
class Forgotten(EventData, frozen=True):
    """Is in no registry."""


@aggregate("bank.account")
class Forgetful(Aggregate):
    @applies(Forgotten)
    def _forget(self, data: Forgotten) -> None: ...


def test_an_aggregate_has_a_name_of_its_own(stores: Stores) -> None:
    with pytest.raises(
        ValueError, match=r"^bank\.account is the name of Account and of Forgetful$"
    ):
        command_bus(stores, BANK, Module((Forgetful,)))


def test_a_command_has_one_handler(stores: Stores) -> None:
    @command("bank.account.open")
    class OpenOtherwise(CommandPayload, frozen=True):
        pass

    with pytest.raises(ValueError, match="registered for Open already"):
        command_bus(stores, BANK, Module(BANK.aggregates, {OpenOtherwise: lambda *_: None}))
