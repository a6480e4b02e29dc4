"""Loading and saving one at a time. Snapshots and the cache: test_aggregates.py."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from shop.eventsourcing import (
    Aggregate,
    AggregateNotFoundError,
    Aggregates,
    ConcurrencyError,
    Event,
    EventData,
    Repository,
    UnitOfWork,
)
from tests.eventsourcing.bank import (
    Account,
    Deposited,
    Opened,
    account,
    booked,
)
from tests.eventsourcing.conftest import Stores

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ADA, BOB = account(), account()


class Unnamed(Aggregate):
    pass


@pytest.fixture
def aggregates(stores: Stores) -> Aggregates:
    return Aggregates(stores.events)


@pytest.fixture
def accounts(aggregates: Aggregates) -> Repository[Account]:
    return Repository(aggregates, Account)


def opened_by(*owners: str) -> Callable[[Account], None]:
    def open_and_deposit(account: Account) -> None:
        for owner in owners:
            account.open(owner)

    return open_and_deposit


def test_what_was_saved_is_got(accounts: Repository[Account]) -> None:
    ada = Account(ADA.id)
    ada.open("Ada")
    ada.deposit(5)

    commit = accounts.save(ada)
    got = accounts.get(ADA.id)

    assert (commit.first, commit.last) == (1, 2)
    assert (got.owner, got.balance, got.version) == ("Ada", 5, 2)
    assert ada.changes == []
    assert ada.stored_version == 2


def test_a_saved_aggregate_may_be_changed_and_saved_again(accounts: Repository[Account]) -> None:
    ada = Account(ADA.id)
    ada.open("Ada")
    accounts.save(ada)

    ada.deposit(5)
    accounts.save(ada)

    assert accounts.get(ADA.id).balance == 5


def test_what_does_not_exist_is_not_found(accounts: Repository[Account]) -> None:
    with pytest.raises(AggregateNotFoundError) as error:
        accounts.get(ADA.id)

    assert error.value.aggregate == ADA


@pytest.mark.parametrize(
    ("cls", "id", "told"),
    [
        (Account, str(ADA.id), "id must be of type UUID, not"),
        (Unnamed, ADA.id, "Unnamed has no name: decorate it with @aggregate"),
        (Opened, ADA.id, "Opened has no name"),
    ],
    ids=["text", "undecorated", "no aggregate"],
)
@pytest.mark.parametrize("call", ["get", "use", "find"])
def test_what_is_no_aggregate_is_refused(
    aggregates: Aggregates, cls: Any, id: Any, told: str, call: str
) -> None:
    repository: Repository[Aggregate] = Repository(aggregates, cls)
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: repository.get(id),
        "use": lambda: repository.use(id, lambda _: None),
        "find": lambda: UnitOfWork(aggregates).find(cls, id),
    }
    with pytest.raises(TypeError, match=told):
        calls[call]()


def test_a_stale_aggregate_is_not_saved(accounts: Repository[Account]) -> None:
    accounts.use(ADA.id, opened_by("Ada"))
    one, other = accounts.get(ADA.id), accounts.get(ADA.id)
    one.deposit(5)
    other.deposit(7)
    accounts.save(one)

    with pytest.raises(ConcurrencyError) as error:
        accounts.save(other)

    assert (error.value.aggregate, error.value.expected, error.value.actual) == (ADA, 1, 2)
    assert accounts.get(ADA.id).balance == 5


def test_use_changes_and_saves_and_returns(accounts: Repository[Account]) -> None:
    ada = accounts.use(ADA.id, opened_by("Ada"))

    assert (ada.version, ada.changes) == (1, [])
    assert accounts.get(ADA.id).owner == "Ada"


def test_use_writes_nothing_where_nothing_changes(
    stores: Stores, accounts: Repository[Account]
) -> None:
    accounts.use(ADA.id, lambda ada: ada.deposit(0))

    assert stores.events.head() == 0


def test_use_repeats_on_conflict_so_that_every_change_lands(
    accounts: Repository[Account],
) -> None:
    accounts.use(ADA.id, opened_by("Ada"))
    start = Barrier(4)

    def deposit_often() -> None:
        start.wait()
        for _ in range(25):
            accounts.use(ADA.id, lambda ada: ada.deposit(1), timeout=30)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(deposit_often) for _ in range(4)]:
            done.result()

    assert accounts.get(ADA.id).balance == 100


def test_use_gives_up_when_its_time_is_over(stores: Stores, accounts: Repository[Account]) -> None:
    def overtaken(ada: Account) -> None:
        stores.events.append(booked(ADA, 1, after=ada.version or 0))
        ada.deposit(1)

    stores.events.append(booked(ADA))
    with pytest.raises(ConcurrencyError):
        accounts.use(ADA.id, overtaken, timeout=0.05)


def test_use_passes_on_what_the_change_raises(accounts: Repository[Account]) -> None:
    calls = []

    def fail(ada: Account) -> None:
        calls.append(ada)
        raise LookupError("no")

    with pytest.raises(LookupError):
        accounts.use(ADA.id, fail)

    assert len(calls) == 1


class TestAsItStood:
    """Loading an aggregate as of an earlier version, time or position."""

    @pytest.fixture(autouse=True, params=["cold", "cached"])
    def history(
        self, stores: Stores, accounts: Repository[Account], request: pytest.FixtureRequest
    ) -> None:
        times = [NOON, NOON + timedelta(hours=1), NOON + timedelta(hours=2)]
        history: list[EventData] = [Opened("Ada"), Deposited(5), Deposited(7)]
        for version, (time, data) in enumerate(zip(times, history, strict=True), 1):
            stores.events.append([Event.new(ADA, version=version, data=data, time=time)])
            stores.events.append(booked(BOB, 1) if version == 1 else [])
        if request.param == "cached":
            accounts.get(ADA.id)

    def test_at_a_version(self, accounts: Repository[Account]) -> None:
        assert accounts.get(ADA.id, version=2).balance == 5
        assert accounts.get(ADA.id, version=3).balance == 12

    def test_a_version_that_it_has_not_reached_is_not_found(
        self, accounts: Repository[Account]
    ) -> None:
        with pytest.raises(AggregateNotFoundError, match="does not exist at version 4"):
            accounts.get(ADA.id, version=4)

    def test_at_a_time(self, accounts: Repository[Account]) -> None:
        assert accounts.get(ADA.id, at=NOON).version == 1
        assert accounts.get(ADA.id, at=NOON + timedelta(minutes=90)).balance == 5
        assert accounts.get(ADA.id, at=NOON + timedelta(days=1)).balance == 12

    def test_before_it_existed_it_is_not_found(self, accounts: Repository[Account]) -> None:
        with pytest.raises(AggregateNotFoundError, match=r"at 2026-05-01T11:59:59\.999999\+00:00"):
            accounts.get(ADA.id, at=NOON - timedelta(microseconds=1))

    def test_a_time_needs_a_zone(self, accounts: Repository[Account]) -> None:
        with pytest.raises(ValueError, match="at needs a time zone"):
            accounts.get(ADA.id, at=NOON.replace(tzinfo=None))

    def test_at_a_position(self, aggregates: Aggregates) -> None:
        versions = [aggregates.load(Account, ADA.id, position=p).version for p in range(6)]

        assert versions == [0, 1, 1, 1, 2, 3]

    def test_several_bounds_all_apply(self, aggregates: Aggregates) -> None:
        load = aggregates.load

        assert load(Account, ADA.id, version=3, position=4).version == 2
        assert load(Account, ADA.id, version=1, position=4).version == 1
        assert load(Account, ADA.id, version=3, at=NOON).version == 1

    def test_the_present_is_not_disturbed(self, accounts: Repository[Account]) -> None:
        accounts.get(ADA.id, version=1)

        assert accounts.get(ADA.id).version == 3


@pytest.mark.parametrize("cached", [False, True])
def test_a_clock_set_back_leaves_no_hole_in_the_versions(
    stores: Stores, accounts: Repository[Account], cached: bool
) -> None:
    times = [NOON, NOON + timedelta(hours=2), NOON + timedelta(hours=1)]
    history: list[EventData] = [Opened("Ada"), Deposited(5), Deposited(7)]
    stores.events.append(
        [
            Event.new(ADA, version=version, data=data, time=time)
            for version, (time, data) in enumerate(zip(times, history, strict=True), 1)
        ]
    )
    if cached:
        accounts.get(ADA.id)

    assert accounts.get(ADA.id, at=NOON + timedelta(minutes=90)).version == 1
