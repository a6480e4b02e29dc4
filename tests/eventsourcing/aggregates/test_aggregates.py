from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from shop.eventsourcing import (
    Aggregate,
    Aggregates,
    Event,
    Repository,
    Snapshot,
    SnapshotStore,
    aggregate,
    applies,
)
from shop.eventsourcing.events.event import AggregateRef, new_id
from tests.eventsourcing.bank import Account, Deposited, LimitSet, Opened, account, booked
from tests.eventsourcing.conftest import OpenShared, Stores
from tests.eventsourcing.counting import CountingStore

ADA = account()


@pytest.fixture
def store(stores: Stores) -> CountingStore:
    return CountingStore(stores.events)


class CountingSnapshots(SnapshotStore):
    """Counts what is saved to a snapshot store."""

    def __init__(self, stores: Stores) -> None:
        self._snapshots = stores.snapshots
        self.saved: list[int] = []

    def load(self, aggregate: AggregateRef) -> Snapshot | None:
        return self._snapshots.load(aggregate)

    def save(self, snapshot: Snapshot) -> None:
        self.saved.append(snapshot.version)
        self._snapshots.save(snapshot)


def test_a_hot_aggregate_is_loaded_by_what_is_newer_alone(store: CountingStore) -> None:
    aggregates = Aggregates(store)
    store.append(booked(ADA, *[1] * 99))
    aggregates.load(Account, ADA.id)
    assert store.events_read() == 100

    aggregates.load(Account, ADA.id)
    unchanged = store.events_read()
    store.append(booked(ADA, 1, 1, after=100))
    loaded = aggregates.load(Account, ADA.id)
    changed = store.events_read()

    assert loaded.balance == 101
    assert unchanged == 1  # the event that it was cached at
    assert changed == 3


def test_what_was_saved_here_is_hot(store: CountingStore) -> None:
    aggregates = Aggregates(store)
    accounts = Repository(aggregates, Account)
    accounts.use(ADA.id, lambda ada: ada.open("Ada"))
    for _ in range(20):
        accounts.use(ADA.id, lambda ada: ada.deposit(1))
    store.events_read()

    accounts.get(ADA.id)

    assert store.events_read() == 1


def test_many_become_hot_by_one_look(store: CountingStore) -> None:
    others = [account() for _ in range(3)]
    store.append(booked(ADA, 5, 6))
    store.append(booked(others[0], 7))
    store.append(booked(others[1], *[1] * 99))
    aggregates = Aggregates(store, snapshot_every=100)
    aggregates.load(Account, ADA.id)
    store.events_read()

    aggregates.preload((Account, ref.id) for ref in (ADA, *others))

    assert store.events_read() == 102 + 100  # the long one is loaded by itself
    seen = [aggregates.cached(Account, ref.id) for ref in (ADA, *others)]
    assert [one and (one.version, one.balance) for one in seen] == [
        (3, 11),
        (2, 7),
        (100, 99),
        (0, 0),
    ]
    aggregates.preload([(Account, ADA.id), (Account, others[0].id), (Account, others[2].id)])
    assert store.events_read() == 0


def test_what_did_not_exist_is_looked_for_when_it_is_loaded(store: CountingStore) -> None:
    aggregates = Aggregates(store)
    aggregates.preload([(Account, ADA.id)])
    assert not aggregates.load(Account, ADA.id).exists

    aggregates.preload([(Account, ADA.id)])
    store.append(booked(ADA, 5))
    assert aggregates.load(Account, ADA.id).balance == 5
    seen = aggregates.cached(Account, ADA.id)
    assert seen is not None
    assert seen.balance == 5


def test_a_look_that_fails_tells_of_none_that_they_do_not_exist(store: CountingStore) -> None:
    strange, sound, absent = [account() for _ in range(3)]
    store.append([Event.new(strange, version=1, data=LimitSet(5))])
    store.append(booked(sound, 7))
    aggregates = Aggregates(store)

    aggregates.preload((Account, ref.id) for ref in (strange, sound, absent))

    assert aggregates.cached(Account, absent.id) is None
    assert aggregates.load(Account, sound.id).balance == 7


def test_a_load_as_of_earlier_does_not_spoil_the_cache(store: CountingStore) -> None:
    aggregates = Aggregates(store)
    store.append(booked(ADA, 1, 2, 3))
    aggregates.load(Account, ADA.id)
    aggregates.load(Account, ADA.id, version=2)
    store.events_read()

    loaded = aggregates.load(Account, ADA.id)

    assert loaded.balance == 6
    assert store.events_read() == 1


def test_every_load_gives_an_object_of_its_own(stores: Stores) -> None:
    aggregates = Aggregates(stores.events)
    stores.events.append(booked(ADA, 10))
    start = Barrier(8)

    def spend_all(_: int) -> Account:
        start.wait()
        ada = aggregates.load(Account, ADA.id)
        ada.withdraw(10)  # would be refused on a shared object
        return ada

    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(spend_all, range(8)))

    assert len({id(ada) for ada in loaded}) == 8
    assert aggregates.load(Account, ADA.id).balance == 10


@pytest.mark.parametrize("theirs", [3, 6, 9], ids=["shorter", "as-long", "longer"])
def test_the_cache_is_not_believed_after_the_store_was_exchanged(theirs: int) -> None:
    store = CountingStore(Stores.at("memory://").events)
    aggregates = Aggregates(store)
    store.append(booked(ADA, *[1] * 5))
    aggregates.load(Account, ADA.id)
    store.store = Stores.at("memory://").events
    store.append(booked(ADA, *[5] * (theirs - 1), owner="Eve"))

    loaded = aggregates.load(Account, ADA.id)

    assert (loaded.owner, loaded.version) == ("Eve", theirs)
    store.events_read()
    aggregates.load(Account, ADA.id)
    assert store.events_read() == 1  # the cache now holds the other stream


def test_an_aggregate_that_is_not_in_the_exchanged_store_does_not_exist() -> None:
    store = CountingStore(Stores.at("memory://").events)
    aggregates = Aggregates(store)
    store.append(booked(ADA, 1))
    aggregates.load(Account, ADA.id)
    store.store = Stores.at("memory://").events

    assert aggregates.load(Account, ADA.id).version == 0


def test_a_cache_that_is_too_small_only_costs_time(stores: Stores) -> None:
    aggregates = Aggregates(stores.events, cache_size=1)
    refs = [account() for _ in range(3)]
    for ref in refs:
        stores.events.append(booked(ref, 5))

    balances = [aggregates.load(Account, ref.id).balance for ref in refs * 2]

    assert balances == [5] * 6


def test_snapshots_are_stored_when_a_multiple_is_passed(stores: Stores) -> None:
    snapshots = CountingSnapshots(stores)
    accounts = Repository(Aggregates(stores.events, snapshots, snapshot_every=10), Account)

    def deposit_thrice(ada: Account) -> None:
        for _ in range(3):
            ada.deposit(1)

    accounts.use(ADA.id, lambda ada: ada.open("Ada"))
    for _ in range(8):
        accounts.use(ADA.id, deposit_thrice)

    assert snapshots.saved == [10, 22]


def test_loading_what_others_wrote_stores_a_snapshot_once_for_each_multiple(
    stores: Stores,
) -> None:
    snapshots = CountingSnapshots(stores)
    aggregates = Aggregates(stores.events, snapshots, snapshot_every=10)
    version = 0
    for _ in range(12):
        stores.events.append(booked(ADA, *[1] * (2 if version else 1), after=version))
        version += 2
        aggregates.load(Account, ADA.id)
        aggregates.load(Account, ADA.id)

    assert snapshots.saved == [10, 20]


def test_after_a_restart_a_long_stream_is_loaded_from_its_snapshot(
    stores: Stores, store: CountingStore
) -> None:
    stores.events.append(booked(ADA, *[1] * 29))
    Aggregates(stores.events, stores.snapshots, snapshot_every=10).load(Account, ADA.id)
    stores.events.append(booked(ADA, 1, after=30))
    restarted = Aggregates(store, stores.snapshots, snapshot_every=10)

    first = restarted.load(Account, ADA.id)
    cold = store.events_read()
    restarted.load(Account, ADA.id)
    hot = store.events_read()

    assert first.balance == 30
    assert cold == 10 + 2  # as many as tell that it is long; then the snapshot's event and a newer
    assert hot == 1


def test_an_unchanged_aggregate_is_cached_once_it_came_from_its_snapshot(
    stores: Stores, store: CountingStore
) -> None:
    stores.events.append(booked(ADA, *[1] * 29))
    Aggregates(stores.events, stores.snapshots, snapshot_every=10).load(Account, ADA.id)
    restarted = Aggregates(store, stores.snapshots, snapshot_every=10)
    restarted.load(Account, ADA.id)
    stores.snapshots.save(Snapshot(ADA, 30, new_id(), "another shape", b""))
    store.events_read()

    assert restarted.load(Account, ADA.id).balance == 29
    assert store.events_read() == 1


@aggregate("bank.account")
class RicherAccount(Aggregate):
    """The account as a later program has it."""

    owner: str = ""
    balance: int = 0
    deposits: int = 0

    @applies(Opened)
    def _opened(self, data: Opened) -> None:
        self.owner = data.owner

    @applies(Deposited)
    def _deposited(self, data: Deposited) -> None:
        self.balance += data.amount
        self.deposits += 1


def test_a_snapshot_of_another_shape_is_ignored_and_replaced(
    stores: Stores, store: CountingStore
) -> None:
    stores.events.append(booked(ADA, *[1] * 29))
    Aggregates(stores.events, stores.snapshots, snapshot_every=10).load(Account, ADA.id)
    updated = Aggregates(store, stores.snapshots, snapshot_every=10)

    loaded = updated.load(RicherAccount, ADA.id)
    store.events_read()
    updated.load(RicherAccount, ADA.id)
    again = store.events_read()
    Aggregates(store, stores.snapshots, snapshot_every=10).load(RicherAccount, ADA.id)

    assert loaded.deposits == 29
    assert again == 1
    assert store.events_read() == 10 + 1  # from the snapshot that took the old one's place


def test_a_stored_snapshot_of_another_stream_is_ignored(stores: Stores) -> None:
    stores.events.append(booked(ADA, 5))
    foreign = Account(ADA.id, version=2, owner="Eve", balance=10_000)
    stores.snapshots.save(Snapshot(ADA, 2, new_id(), Account.shape, foreign.encode()))

    loaded = Aggregates(stores.events, stores.snapshots).load(Account, ADA.id)

    assert (loaded.owner, loaded.balance) == ("Ada", 5)


def test_a_snapshot_newer_than_the_bound_is_passed_over(stores: Stores) -> None:
    stores.events.append(booked(ADA, *[1] * 9))
    aggregates = Aggregates(stores.events, stores.snapshots, snapshot_every=5)
    aggregates.load(Account, ADA.id)

    assert aggregates.load(Account, ADA.id, version=4).balance == 3
    assert aggregates.load(Account, ADA.id, position=3).balance == 2


def test_a_snapshot_store_that_fails_fails_nothing_that_was_saved(
    open_shared: OpenShared, memory_stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    closed = open_shared()
    accounts = Repository(
        Aggregates(memory_stores.events, closed.snapshots, snapshot_every=1), Account
    )
    ada = Account(ADA.id)
    ada.open("Ada")
    closed.events.close()

    accounts.save(ada)

    assert accounts.get(ADA.id).owner == "Ada"
    assert f"could not store a snapshot of {ADA}" in caplog.text


@aggregate("bank.account")
class Mistyped(Aggregate):
    balance: str = ""

    def deposit(self, amount: int) -> None:
        self.record(Deposited(amount))

    @applies(Deposited)
    def _deposited(self, data: Deposited) -> None:
        self.balance = data.amount  # type: ignore[assignment]  # without a checker, who knows?


@pytest.mark.parametrize("restarted", [False, True], ids=["cached", "stored"])
def test_a_state_that_cannot_be_decoded_is_folded_anew(
    memory_stores: Stores, caplog: pytest.LogCaptureFixture, restarted: bool
) -> None:
    def aggregates() -> Aggregates:
        return Aggregates(memory_stores.events, memory_stores.snapshots, snapshot_every=2)

    accounts = aggregates()
    for amount in (1, 2, 3):
        Repository(accounts, Mistyped).use(ADA.id, lambda ada, n=amount: ada.deposit(n))  # type: ignore[misc]
    if restarted:
        accounts = aggregates()

    loaded = accounts.load(Mistyped, ADA.id)

    assert (loaded.version, repr(loaded.balance)) == (3, "3")
    told = f"the state of {ADA} does not fit Mistyped: Expected `str`, got `int` - at `$.balance`"
    assert told in caplog.text


def test_a_state_that_cannot_be_encoded_is_only_not_cached(
    memory_stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    accounts = Aggregates(memory_stores.events, memory_stores.snapshots, snapshot_every=1)
    memory_stores.events.append(booked(ADA, *[2**63 - 1] * 3))

    Repository(accounts, Account).use(ADA.id, lambda ada: ada.deposit(1))

    assert accounts.load(Account, ADA.id).balance == 3 * (2**63 - 1) + 1
    assert f"the state of {ADA} cannot be kept" in caplog.text
