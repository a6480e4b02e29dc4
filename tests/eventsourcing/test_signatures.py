"""What authors define is checked for what it will be called with, where it is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pytest

from shop.eventsourcing import Module, applies, handles, reacts_to, when_due, when_refused
from shop.eventsourcing.events.types import check_signature
from tests.eventsourcing.bank import Deposit, Deposited

Mark = Callable[[Callable[..., None]], object]


def command_handler(function: Callable[..., None]) -> Module:
    return Module(handlers={Deposit: function})


MARKS: list[tuple[Mark, str]] = [
    (applies(Deposited), "self, data"),
    (handles(Deposited), "self, event, models"),
    (reacts_to(Deposited), "self, event, instance, now"),
    (when_due("late"), "self, event, instance, now"),
    (when_refused(Deposit), "self, event, instance, now"),
    (command_handler, "payload, id, work"),
    (lambda function: reacts_to(Deposited, by=function), "event"),
]


def none() -> None: ...


def one_more(a: Any, b: Any, c: Any, d: Any, e: Any) -> None: ...


@pytest.mark.parametrize(("mark", "given"), MARKS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("function", [none, one_more])
def test_a_function_that_could_not_be_called_is_refused(
    function: Callable[..., None], mark: Mark, given: str
) -> None:
    with pytest.raises(
        TypeError, match=rf"{function.__name__} is to be called with \({given}\), and takes \("
    ):
        mark(function)


@pytest.mark.parametrize(("mark", "given"), MARKS, ids=lambda value: str(value)[:40])
def test_one_that_can_be_called_is_taken(mark: Mark, given: str) -> None:
    def flexible(first: Any, *others: Any, option: bool = False) -> None: ...

    @wraps(one_more)
    def wrapped(*others: Any) -> None: ...

    assert mark(flexible)
    assert mark(wrapped)


async def asynchronous(*others: Any) -> None: ...


def generator(*others: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize(("mark", "given"), MARKS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("function", [asynchronous, generator])
def test_one_that_would_do_nothing_is_refused(
    function: Callable[..., Any], mark: Mark, given: str
) -> None:
    with pytest.raises(TypeError, match=f"{function.__name__} would do nothing when called"):
        mark(function)


def test_one_that_does_not_tell_its_signature_is_taken() -> None:
    check_signature(dict.pop, "payload")
