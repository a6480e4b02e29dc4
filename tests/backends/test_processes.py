"""Stores of every kind under several processes at once."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID, uuid4

import pytest

from shop.bootstrap import open_event_store
from shop.eventsourcing import AggregateRef, Query
from tests.backends.conftest import Start
from tests.notebook import registry
from tests.stores import DURABLE

PROCESSES, THREADS = 4, 4


# Of each thread; over 20,000 in all, of each kind as many as it takes in a few seconds: with a
# quarter of them to one aggregate, processes stand in each other's way all the time.
COMMITS = {"sqlite": 600, "postgres": 400, "mongodb": 130, "mongodb_replica_set": 130}


@pytest.fixture(params=DURABLE)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    return DURABLE[kind](request)()


def test_processes_that_write_to_one_log_keep_one_order(
    kind: str, url: str, start_on_store: Start
) -> None:
    """A quarter of the commits are to one aggregate; two readers follow."""
    commits, shared = COMMITS[kind], uuid4()
    writers = [start_on_store("write", url, THREADS, commits, shared) for _ in range(PROCESSES)]
    followers = [start_on_store("follow", url) for _ in range(2)]
    for program in (*writers, *followers):
        assert program.hear() == "ready"
    for program in (*writers, *followers):
        program.tell()
    acknowledged = [UUID(id) for w in writers for _ in range(THREADS) for id in w.hear().split()]
    assert [writer.end() for writer in writers] == [0] * PROCESSES
    with open_event_store(url, registry()) as store:
        head = store.head()
        for follower in followers:
            follower.tell()  # to the end, which is known now
            assert follower.hear() == f"seen {head}"
            assert follower.end() == 0
        known = {commit.id: commit for commit in store.commits()}
        assert len(acknowledged) == PROCESSES * THREADS * commits == len(known)
        assert set(acknowledged) == set(known)
        versions: dict[AggregateRef, list[int]] = defaultdict(list)
        for position, event in enumerate(store.read(Query()), 1):
            assert event.position == position
            versions[event.aggregate].append(event.version)
        assert all(v == list(range(1, len(v) + 1)) for v in versions.values())
        ours = AggregateRef("notebook.note", shared)
        assert len(versions[ours]) == PROCESSES * THREADS * -(-commits // 4)


def test_processes_may_create_one_store_at_once(
    kind: str, request: pytest.FixtureRequest, start_on_store: Start
) -> None:
    new_url = DURABLE[kind](request)
    urls = [new_url() for _ in range(5)]
    creators = [start_on_store("create", *urls) for _ in range(4)]
    for creator in creators:
        assert creator.hear() == "ready"
    for url in urls:
        for creator in creators:
            creator.tell()
        identities = {creator.hear() for creator in creators}
        with open_event_store(url, registry()) as store:
            assert identities == {str(store.info().identity)}
            assert store.head() == 4
    assert [creator.end() for creator in creators] == [0] * 4
