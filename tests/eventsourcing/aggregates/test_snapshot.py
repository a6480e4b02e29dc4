from __future__ import annotations

from uuid import uuid4

from shop.eventsourcing import AggregateRef, Snapshot
from shop.eventsourcing.aggregates.snapshot import SnapshotCache
from tests.eventsourcing.bank import account


def snapshot(ref: AggregateRef, version: int = 1) -> Snapshot:
    return Snapshot(ref, version, uuid4(), "a shape", b"a state")


def test_the_cache_gives_back_what_was_saved() -> None:
    cache = SnapshotCache(capacity=2)
    saved = snapshot(account())

    cache.save(saved)

    assert cache.load(saved.aggregate) == saved
    assert cache.load(account()) is None


def test_the_cache_forgets_what_was_used_least_recently() -> None:
    cache = SnapshotCache(capacity=2)
    ada, bob, eve = snapshot(account()), snapshot(account()), snapshot(account())
    cache.save(ada)
    cache.save(bob)
    cache.load(ada.aggregate)

    cache.save(eve)

    assert cache.load(bob.aggregate) is None
    assert cache.load(ada.aggregate) == ada
    assert cache.load(eve.aggregate) == eve


def test_an_older_snapshot_does_not_replace_a_newer_one_in_the_cache() -> None:
    cache = SnapshotCache(capacity=2)
    ref = account()
    newer = snapshot(ref, 5)

    cache.save(newer)
    cache.save(snapshot(ref, 4))

    assert cache.load(ref) == newer


def test_what_was_forgotten_may_be_replaced_by_an_older_one() -> None:
    cache = SnapshotCache(capacity=2)
    ref = account()
    older = snapshot(ref, 4)
    cache.save(snapshot(ref, 5))

    cache.forget(ref)
    cache.forget(account())
    cache.save(older)

    assert cache.load(ref) == older
