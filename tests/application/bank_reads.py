"""Reads of the tests' bank."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from shop.application import Answer, NoQuery, Read
from shop.runtime import Shop
from tests.eventsourcing.bank import Balance, Balances


def get_balance(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """What an account has."""
    found = running.reader(Balances.name).get(Balance, id)
    return Answer(found.value, found.position)


def get_other_balance(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """The same, under another name."""
    return get_balance(running, query, id)


def get_by_number(running: Shop, query: NoQuery, number: str) -> Answer:
    """What the account of a number has."""
    return get_balance(running, query, UUID(int=int(number)))


def get_all(running: Shop, query: NoQuery) -> Answer:
    return Answer(Balance("all", 0))


def read(
    path: str,
    answer: Callable[..., Answer] = get_balance,
    *,
    projection: str = Balances.name,
    aggregate: str | None = None,
) -> Read:
    return Read(path=path, answer=answer, shape=Balance, projection=projection, aggregate=aggregate)
