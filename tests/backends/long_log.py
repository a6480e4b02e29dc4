"""A log of a hundred thousand events, and queries that no store answers by a look at all of it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from shop.eventsourcing import AggregateRef, Commit, EventStore, Query
from tests.notebook import AnyEvent, counted, noted

EVENTS = 100_000
_BATCH = 5000
REFS = [AggregateRef(f"notebook.kind_{n % 4}", uuid4()) for n in range(100)]


def fill(store: EventStore, *, of_one_event: bool = False) -> None:
    """Store the events: of a hundred aggregates in turn, each tenth a number.

    ``of_one_event``: each in a commit of its own, for a store that keeps commits as they come.
    """
    size = 1 if of_one_event else _BATCH
    for first in range(0, EVENTS, _BATCH):
        store.replicate(
            [
                (Commit(uuid4(), n + 1, n + size, b"digest"), list(map(_event, range(n, n + size))))
                for n in range(first, first + _BATCH, size)
            ]
        )


def _event(n: int) -> AnyEvent:
    return (counted if n % 10 == 9 else noted)(REFS[n % 100], n // 100 + 1)


QUERIES: Mapping[str, Query] = {
    "all": Query(),
    "after": Query(after=EVENTS // 2, limit=10),
    "newest": Query(reverse=True, limit=10),
    "ids": Query(ids=[uuid4(), uuid4()]),
    "many ids": Query(ids=[uuid4() for _ in range(500)]),
    "ref": Query(refs=[REFS[7]]),
    "newest of a ref": Query(refs=[REFS[7]], reverse=True, limit=1),
    "ref from version": Query(refs=[REFS[7]], versions=(900, None)),
    "ref between versions": Query(refs=[REFS[7]], versions=(500, 510)),
    "ref beyond its version": Query(refs=[REFS[7]], versions=(1001, None)),
    "ref and name": Query(refs=[REFS[7]], names=["notebook.noted"]),
    "several refs": Query(refs=REFS[:7], after=EVENTS // 2),
    "many refs between versions": Query(refs=REFS, versions=(1, 5)),
    "aggregate id": Query(aggregate_ids=[REFS[7].id]),
    "name": Query(names=["notebook.counted"]),
    "name after": Query(names=["notebook.counted"], after=EVENTS // 2, limit=10),
    "newest of a name": Query(names=["notebook.counted"], reverse=True, limit=10),
    "several names": Query(names=["notebook.counted", "notebook.noted"], limit=10),
    "aggregate": Query(aggregates=["notebook.kind_3"], limit=10),
}
