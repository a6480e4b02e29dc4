"""Applications and their reads: what they are checked for when they are made."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import pytest

import tests.eventsourcing.bank
from shop.application import Application, ApplicationError, NoQuery, Read
from shop.eventsourcing import (
    Aggregate,
    CommandPayload,
    Module,
    UnitOfWork,
    Workflow,
    WorkflowList,
    aggregate,
    command,
)
from tests.application.bank_reads import (
    get_all,
    get_balance,
    get_by_number,
    get_other_balance,
    read,
)
from tests.eventsourcing.bank import BANK, Account, Balance, Balances
from tests.eventsourcing.reminders import MODULES, REMINDERS, Reminders


@aggregate("bank.account")
class OtherAccount(Aggregate):
    """Of the same name."""


@command("bank.acount.close")
class Close(CommandPayload, frozen=True):
    """Named after no aggregate."""


def close(payload: Close, id: UUID, work: UnitOfWork) -> None: ...


class MisnamedBalances(Balances):
    """Of a name that is the toolkit's."""

    name = "workflows"


LISTED = (Balances(), WorkflowList())


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"modules": MODULES, "workflows": [Reminders()]}, r"WorkflowList\(\) must be among the"),
        (
            {"modules": [BANK], "projections": LISTED, "workflows": [Reminders()]},
            r"bank\.reminder is a workflow, and no module has Reminder, the aggregate of its",
        ),
        (
            {"modules": [REMINDERS], "projections": LISTED, "workflows": [Reminders()]},
            r"(?s)balances follows bank\.account\.deposited, and no module .*"
            r"bank\.reminder follows bank\.account\.deposited, and no module has an aggregate",
        ),
        ({"modules": [BANK], "projections": [Balances]}, "has the class Balances, which is no Pro"),
        ({"modules": MODULES, "workflows": [Reminders]}, "has the class Reminders, which is no W"),
        ({"modules": MODULES, "workflows": [Workflow()]}, "Workflow has no class of instances"),
        ({"modules": [tests.eventsourcing.bank]}, r"modules has <module .*>, which is no Module"),
        ({"modules": [BANK], "reads": [get_balance]}, r"reads has <function .*>, which is no Read"),
        ({"modules": [BANK], "projections": [Balances(), Balances()]}, "2 projections balances"),
        (
            {"modules": MODULES, "projections": LISTED, "workflows": [Reminders(), Reminders()]},
            r"there are 2 workflows bank\.reminder",
        ),
        (
            {"modules": [BANK, Module(aggregates=(OtherAccount,))]},
            r"bank\.account is the name of Account and of OtherAccount",
        ),
        (
            {"modules": [BANK, Module(handlers={Close: close})]},
            r"bank\.acount\.close is no name for a command",
        ),
        (
            {"modules": [BANK], "reads": [read("/balances/<id>")]},
            r"/balances/<id> answers from balances, .* no such projection \(known: none\)",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/balances/<id>", projection="balance")],
            },
            r"answers from balance, and there is no such projection \(near: balances\)",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/balances/<id>", aggregate="bank.acount")],
            },
            r"shows bank\.acount, and no module has such an aggregate \(near: bank\.account\)",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/a/<id>"), read("/a/<number>", get_by_number)],
            },
            "2 reads of the path /a/<>",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [
                    read("/a/<id>", aggregate=Account.kind),
                    read("/b/<id>", get_other_balance, aggregate=Account.kind),
                ],
            },
            r"2 reads of the aggregate bank\.account",
        ),
        (
            {"modules": [BANK], "projections": [MisnamedBalances()]},
            "workflows is the name of WorkflowList, and of no other projection",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/a/<id>"), read("/b/<id>")],
            },
            "2 reads by the function get_balance",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(ApplicationError, match=told):
        Application(**parts)


def test_the_parts_of_an_application_may_come_from_anywhere_but_must_be_several() -> None:
    application = Application(module for module in [BANK])  # type: ignore[arg-type]
    assert application.modules == (BANK,)
    with pytest.raises(ApplicationError, match=r"modules is a list, not Module\("):
        Application(BANK)  # type: ignore[arg-type]


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ApplicationError) as caught:
        Application(
            [REMINDERS], [Balances(), Balances()], [Reminders()], [read("/a/<id>", aggregate="x")]
        )
    assert len(caught.value.mistakes) > 3


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("balances/<id>", "balances/<id> is no path of a read, such as"),
        ("/", "/ is no path"),
        ("/balances/", "/balances/ is no path"),
        ("/balances/<int:id>", "/balances/<int:id> is no path"),
        ("/balances/<id", "/balances/<id is no path"),
        ("/<id>", "/<id> is no path"),
        ("/a/<id>/of/<id>", "has two parts of one name"),
        (
            "/balances/<id>/<query>",
            r"get_balance is to be called with \(shop, query, id, query\), and takes",
        ),
        (
            "/balances",
            r"get_balance is to be called with \(shop, query\), and takes \(running, query, id\)",
        ),
        ("/balances/<number>", r"is to be called with \(shop, query, number\), and takes"),
    ],
)
def test_a_read_has_a_path_and_a_function_that_takes_its_parts(path: str, told: str) -> None:
    with pytest.raises(ApplicationError, match=told):
        read(path)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"shape": object}, "/balances: shape <class 'object'>"),
        ({"query": int}, "/balances: query is a struct class, not <class 'int'>"),
        ({"query": NoQuery()}, "/balances: query NoQuery"),
        ({"answer": partial(get_all)}, "is no function with a name"),
    ],
)
def test_a_read_that_could_not_be_documented_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ApplicationError, match=told):
        Read(**{"path": "/balances", "answer": get_all, "shape": Balance, **fields})


@pytest.mark.parametrize("path", ["/balances", "/balances/<number>", "/banks/<bank>/<id>"])
def test_a_read_that_shows_an_aggregate_does_so_by_its_id(path: str) -> None:
    with pytest.raises(ApplicationError, match="by <id>"):
        read(path, aggregate=Account.kind)
