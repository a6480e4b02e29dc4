from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from shop.backends.memory import MemoryEventStore
from shop.eventsourcing import AggregateNotFoundError, AggregateRef, StaleVersionError
from shop.eventsourcing.testing import Scenario
from tests.eventsourcing.bank import (
    BANK,
    LIMIT_ID,
    Balance,
    Deposit,
    Deposited,
    LimitSet,
    Open,
    Opened,
    Transfer,
    Withdraw,
    Withdrawn,
    account,
)

ADA, BOB = account(), account()


@pytest.fixture
def bank() -> Scenario:
    return Scenario(MemoryEventStore, BANK)


def test_a_command_records_what_is_told(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Deposit(5), ADA).then(ADA, Deposited(5))


def test_one_command_may_concern_several_aggregates(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada"), Deposited(5)).given(BOB, Opened("Bob"))

    bank.when(Transfer(BOB.id, 5), ADA).then(ADA, Withdrawn(5), BOB, Deposited(5))


def test_several_aggregates_may_be_given_at_once(bank: Scenario) -> None:
    limit = AggregateRef("bank.limit", LIMIT_ID)
    bank.given(ADA, Opened("Ada"), Deposited(5), limit, LimitSet(4))

    bank.when(Withdraw(5), ADA).then_rejected("limit-exceeded")


def test_what_a_command_did_is_given_to_the_next(bank: Scenario) -> None:
    bank.when(Open("Ada"), ADA).then(ADA, Opened("Ada"))
    bank.when(Deposit(5), ADA).when(Withdraw(5), ADA).then(ADA, Withdrawn(5))


def test_given_continues_what_happened_before(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).given(ADA, Deposited(5)).given(ADA, Deposited(6))

    bank.when(Withdraw(11), ADA).then(ADA, Withdrawn(11))


def test_a_creating_command_may_make_the_id(bank: Scenario) -> None:
    made = bank.when(Open("Ada")).result.aggregate

    bank.then(made, Opened("Ada"))


def test_nothing_recorded_is_told_too(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Deposit(0), ADA).then_nothing()


def test_other_errors_are_told_by_their_kind(bank: Scenario) -> None:
    bank.when(Deposit(5), ADA).then_raised(AggregateNotFoundError)
    bank.given(ADA, Opened("Ada"))
    bank.when(Deposit(5), ADA, expected_version=4).then_raised(StaleVersionError)


def test_events_other_than_told_fail_with_their_difference(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Deposit(5), ADA)

    with pytest.raises(AssertionError) as failure:
        bank.then(ADA, Deposited(6))

    lines = str(failure.value).splitlines()
    assert f'- {ADA} bank.account.deposited {{"amount":6}}' in lines
    assert f'+ {ADA} bank.account.deposited {{"amount":5}}' in lines


def test_the_order_of_events_matters(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada"), Deposited(5)).given(BOB, Opened("Bob"))
    bank.when(Transfer(BOB.id, 5), ADA)

    with pytest.raises(AssertionError, match="other events were recorded"):
        bank.then(BOB, Deposited(5), ADA, Withdrawn(5))


def test_an_event_too_many_fails(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Deposit(5), ADA)

    with pytest.raises(AssertionError, match=r"\+ bank\.account.*deposited"):
        bank.then_nothing()


def test_a_rejection_fails_what_expects_events_and_says_why(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Withdraw(5), ADA)

    with pytest.raises(AssertionError, match="raised CommandRejected: funds-insufficient"):
        bank.then(ADA, Withdrawn(5))
    with pytest.raises(AssertionError, match="funds-insufficient"):
        bank.then_nothing()


def test_events_fail_what_expects_a_rejection_and_are_shown(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Deposit(5), ADA)

    with pytest.raises(AssertionError, match=r'it recorded\n.*deposited \{"amount":5\}'):
        bank.then_rejected("funds-insufficient")


def test_nothing_fails_what_expects_a_rejection(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Deposit(0), ADA)

    with pytest.raises(AssertionError, match="it recorded no event"):
        bank.then_raised(AggregateNotFoundError)


@pytest.mark.parametrize(
    "step",
    [
        lambda bank: bank.given(BOB, Opened("Bob")),
        lambda bank: bank.when(Deposit(5), ADA),
        lambda bank: bank.after(1),
        lambda bank: bank.model(Balance, ADA.id),
    ],
    ids=["given", "when", "after", "model"],
)
def test_a_refusal_that_nothing_speaks_of_fails_the_next_step(
    step: Callable[[Scenario], object], bank: Scenario
) -> None:
    bank.given(ADA, Opened("Ada")).when(Withdraw(5), ADA)

    with pytest.raises(AssertionError, match=r"nothing was expected of it: .*funds-insufficient"):
        step(bank)


def test_a_refusal_that_was_expected_keeps_nothing(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Withdraw(5), ADA).then_rejected("funds-insufficient")
    bank.when(Deposit(5), ADA).then(ADA, Deposited(5))


def test_a_rejection_with_another_code_fails(bank: Scenario) -> None:
    bank.given(ADA, Opened("Ada")).when(Withdraw(5), ADA)

    with pytest.raises(AssertionError, match=r"with limit-exceeded, it was with funds-insuff"):
        bank.then_rejected("limit-exceeded")


def test_a_command_is_addressed_to_its_own_kind_of_aggregate(bank: Scenario) -> None:
    with pytest.raises(ValueError, match=r"deposit is for a bank\.account, not bank\.limit"):
        bank.when(Deposit(5), AggregateRef("bank.limit", uuid4()))


def test_there_is_no_then_without_when(bank: Scenario) -> None:
    with pytest.raises(ValueError, match="begin with when"):
        bank.given(ADA, Opened("Ada")).then_nothing()
