"""Several aggregates in one atomic commit. Many such commits at once: test_dispatch_each.py."""

from __future__ import annotations

import pytest

from shop.eventsourcing import (
    AggregateNotFoundError,
    Aggregates,
    ConcurrencyError,
    Query,
    Repository,
    StaleVersionError,
    UnitOfWork,
)
from tests.eventsourcing.bank import LIMIT_ID, Account, Limit, account, booked
from tests.eventsourcing.conftest import Stores

ADA, BOB = account(), account()


@pytest.fixture
def aggregates(stores: Stores) -> Aggregates:
    return Aggregates(stores.events)


@pytest.fixture(autouse=True)
def two_accounts(stores: Stores) -> None:
    stores.events.append([*booked(ADA, 10), *booked(BOB, owner="Bob")])


def test_several_aggregates_are_saved_in_one_commit(stores: Stores, aggregates: Aggregates) -> None:
    work = UnitOfWork(aggregates)
    work.get(Account, ADA.id).withdraw(4)
    work.get(Account, BOB.id).deposit(4)

    commit = work.commit()

    assert commit.size == 2
    assert work.events == list(stores.events.read(Query(after=3)))
    assert aggregates.load(Account, BOB.id).balance == 4


def test_a_conflict_on_one_saves_none(stores: Stores, aggregates: Aggregates) -> None:
    work = UnitOfWork(aggregates)
    work.get(Account, ADA.id).withdraw(4)
    work.get(Account, BOB.id).deposit(4)
    stores.events.append(booked(BOB, 1, after=1))

    with pytest.raises(ConcurrencyError) as error:
        work.commit()

    assert error.value.aggregate == BOB
    assert stores.events.head() == 4


def test_what_was_only_looked_at_must_not_have_changed_either(
    stores: Stores, aggregates: Aggregates
) -> None:
    work = UnitOfWork(aggregates)
    work.find(Limit, LIMIT_ID)
    work.get(Account, ADA.id).withdraw(10)
    Repository(aggregates, Limit).use(LIMIT_ID, lambda limit: limit.set(5))

    with pytest.raises(ConcurrencyError) as error:
        work.commit()

    assert error.value.aggregate.id == LIMIT_ID
    assert aggregates.load(Account, ADA.id).balance == 10


def test_an_aggregate_is_loaded_once(aggregates: Aggregates) -> None:
    work = UnitOfWork(aggregates)

    assert work.get(Account, ADA.id) is work.find(Account, ADA.id)


def test_find_gives_what_does_not_exist_at_version_0_and_get_does_not(
    aggregates: Aggregates,
) -> None:
    work = UnitOfWork(aggregates)
    new = account()

    assert work.find(Account, new.id).version == 0
    with pytest.raises(AggregateNotFoundError):
        work.get(Account, new.id)


def test_the_same_aggregate_is_not_taken_in_twice(aggregates: Aggregates) -> None:
    work = UnitOfWork(aggregates)
    ada = work.get(Account, ADA.id)

    work.add(ada)
    with pytest.raises(ValueError, match="in this unit of work already"):
        work.add(Account(ADA.id))


def test_the_version_includes_what_was_recorded(aggregates: Aggregates) -> None:
    work = UnitOfWork(aggregates)
    work.get(Account, ADA.id).deposit(1)

    assert work.version(ADA) == 3
    work.check_version(ADA, 2)
    work.check_version(ADA, None)
    with pytest.raises(StaleVersionError):
        work.check_version(ADA, 3)
    with pytest.raises(KeyError):
        work.version(BOB)


def test_nothing_recorded_stores_no_event(stores: Stores, aggregates: Aggregates) -> None:
    work = UnitOfWork(aggregates)
    work.get(Account, ADA.id)

    commit = work.commit()

    assert (commit.size, stores.events.head(), work.events) == (0, 3, [])


def test_a_repeated_commit_stores_nothing_and_says_so(
    stores: Stores, aggregates: Aggregates
) -> None:
    first = UnitOfWork(aggregates)
    first.get(Account, ADA.id).deposit(1)
    commit = first.commit(digest=b"deposit")
    again = UnitOfWork(aggregates)
    again.get(Account, ADA.id).deposit(1)

    replayed = again.commit(commit_id=commit.id, digest=b"deposit")

    assert replayed.replayed
    assert again.events == []
    assert stores.events.head() == commit.last
