"""Loading, saving and units of work. Snapshots and the cache: test_repository_cache.py."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from shop.eventsourcing import (
    AggregateNotFoundError,
    Aggregates,
    ConcurrencyError,
    Event,
    EventData,
    Query,
    Repository,
)
from tests.eventsourcing.bank import (
    LIMIT_ID,
    Account,
    Deposited,
    Limit,
    Opened,
    account,
    booked,
)
from tests.eventsourcing.conftest import Stores

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ADA, BOB = account(), account()


@pytest.fixture
def aggregates(stores: Stores) -> Aggregates:
    return Aggregates(stores.events)


@pytest.fixture
def accounts(aggregates: Aggregates) -> Repository[Account]:
    return aggregates.repository(Account)


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
        with pytest.raises(AggregateNotFoundError):
            accounts.get(ADA.id, version=4)

    def test_at_a_time(self, accounts: Repository[Account]) -> None:
        assert accounts.get(ADA.id, at=NOON).version == 1
        assert accounts.get(ADA.id, at=NOON + timedelta(minutes=90)).balance == 5
        assert accounts.get(ADA.id, at=NOON + timedelta(days=1)).balance == 12

    def test_before_it_existed_it_is_not_found(self, accounts: Repository[Account]) -> None:
        with pytest.raises(AggregateNotFoundError):
            accounts.get(ADA.id, at=NOON - timedelta(microseconds=1))

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


class TestUnitOfWork:
    @pytest.fixture(autouse=True)
    def two_accounts(self, stores: Stores) -> None:
        stores.events.append([*booked(ADA, 10), *booked(BOB, owner="Bob")])

    def test_several_aggregates_are_saved_in_one_commit(
        self, stores: Stores, aggregates: Aggregates
    ) -> None:
        work = aggregates.work()
        work.get(Account, ADA.id).withdraw(4)
        work.get(Account, BOB.id).deposit(4)

        commit = work.commit()

        assert commit.size == 2
        assert work.events == list(stores.events.read(Query(after=3)))
        assert aggregates.load(Account, BOB.id).balance == 4

    def test_a_conflict_on_one_saves_none(self, stores: Stores, aggregates: Aggregates) -> None:
        work = aggregates.work()
        work.get(Account, ADA.id).withdraw(4)
        work.get(Account, BOB.id).deposit(4)
        stores.events.append(booked(BOB, 1, after=1))

        with pytest.raises(ConcurrencyError) as error:
            work.commit()

        assert error.value.aggregate == BOB
        assert stores.events.head() == 4

    def test_what_was_only_looked_at_must_not_have_changed_either(
        self, stores: Stores, aggregates: Aggregates
    ) -> None:
        work = aggregates.work()
        work.find(Limit, LIMIT_ID)
        work.get(Account, ADA.id).withdraw(10)
        aggregates.repository(Limit).use(LIMIT_ID, lambda limit: limit.set(5))

        with pytest.raises(ConcurrencyError) as error:
            work.commit()

        assert error.value.aggregate.id == LIMIT_ID
        assert aggregates.load(Account, ADA.id).balance == 10

    def test_an_aggregate_is_loaded_once(self, aggregates: Aggregates) -> None:
        work = aggregates.work()

        assert work.get(Account, ADA.id) is work.find(Account, ADA.id)

    def test_find_gives_what_does_not_exist_at_version_0_and_get_does_not(
        self, aggregates: Aggregates
    ) -> None:
        work = aggregates.work()
        new = account()

        assert work.find(Account, new.id).version == 0
        with pytest.raises(AggregateNotFoundError):
            work.get(Account, new.id)

    def test_the_same_aggregate_is_not_taken_in_twice(self, aggregates: Aggregates) -> None:
        work = aggregates.work()
        ada = work.get(Account, ADA.id)

        work.add(ada)
        with pytest.raises(ValueError, match="in this unit of work already"):
            work.add(Account(ADA.id))

    def test_the_version_includes_what_was_recorded(self, aggregates: Aggregates) -> None:
        work = aggregates.work()
        work.get(Account, ADA.id).deposit(1)

        assert work.version(ADA) == 3
        assert work.version(ADA, expected=2) == 3
        with pytest.raises(KeyError):
            work.version(BOB)

    def test_nothing_recorded_stores_no_event(self, stores: Stores, aggregates: Aggregates) -> None:
        work = aggregates.work()
        work.get(Account, ADA.id)

        commit = work.commit()

        assert (commit.size, stores.events.head(), work.events) == (0, 3, [])

    def test_a_repeated_commit_stores_nothing_and_says_so(
        self, stores: Stores, aggregates: Aggregates
    ) -> None:
        first = aggregates.work()
        first.get(Account, ADA.id).deposit(1)
        commit = first.commit(digest=b"deposit")
        again = aggregates.work()
        again.get(Account, ADA.id).deposit(1)

        replayed = again.commit(commit_id=commit.id, digest=b"deposit")

        assert replayed.replayed
        assert again.events == []
        assert stores.events.head() == commit.last
