"""Many writers at once: one order, whole versions, and each its own outcome."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from uuid import UUID, uuid4

import pytest

from shop.eventsourcing import (
    Commit,
    CommitInDoubtError,
    ConcurrencyError,
    EventIdReusedError,
    EventStore,
    Query,
    Snapshot,
    new_id,
)
from shop.eventsourcing.threads import BackgroundThread
from tests.conftest import Eventually
from tests.interrupting import press_ctrl_c_during
from tests.notebook import AnyEvent, counted, note, noted, positions, registry, stream
from tests.stores import NewStorage, Storage

THREADS = 8


@pytest.fixture(autouse=True)
def _restless() -> Iterator[None]:
    """Has threads take turns far more often than usual, so that races come out."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def at_once(works: list[Callable[[], Commit]]) -> list[Commit | Exception]:
    """The outcomes of appends that all begin together, each in a thread of its own."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], Commit]) -> Commit | Exception:
        start.wait()
        try:
            return work()
        except (ConcurrencyError, EventIdReusedError) as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def test_of_many_who_append_one_version_exactly_one_wins(store: EventStore) -> None:
    ref = note()
    for version in range(1, 21):
        events = [noted(ref, version, f"from thread {n}") for n in range(THREADS)]
        outcomes = at_once([partial(store.append, [event]) for event in events])
        winners = [
            event for event, o in zip(events, outcomes, strict=True) if isinstance(o, Commit)
        ]
        assert len(winners) == 1
        (read,) = store.read(Query(refs=[ref], versions=(version, version)))
        assert read.id == winners[0].id
    assert store.head() == 20


@pytest.mark.parametrize("size", [0, 2])
def test_of_many_who_send_one_commit_one_writes_and_all_get_its_positions(
    store: EventStore, size: int
) -> None:
    """Also when they come together in one group, with others."""
    for _ in range(10):
        events, commit_id, before = stream(note(), size), uuid4(), store.head()
        works = [partial(store.append, events, commit_id=commit_id)] * THREADS
        outcomes = at_once([*works, *[partial(store.append, [])] * THREADS])
        commits = [outcome for outcome in outcomes if isinstance(outcome, Commit)]
        replayed = [commit.replayed for commit in commits]
        assert sorted(replayed[:THREADS]) == [False] + [True] * (THREADS - 1)
        assert replayed[THREADS:] == [False] * THREADS
        places = [(commit.first, commit.last) for commit in commits[:THREADS]]
        assert places == [(before + 1, before + size)] * THREADS
        assert store.head() == before + size


def test_of_many_who_append_one_event_in_commits_of_their_own_one_wins(store: EventStore) -> None:
    """Also when they come together in one group, behind another append."""
    for number in range(1, 21):
        id = new_id()
        other = partial(store.append, stream(note(), 50))
        works = [partial(store.append, [noted(note(), 1, id=id)]) for _ in range(THREADS)]
        outcomes = at_once([other, *works])[1:]
        assert sum(isinstance(outcome, Commit) for outcome in outcomes) == 1
        assert sum(isinstance(o, EventIdReusedError) for o in outcomes) == THREADS - 1
        assert store.head() == number * 51


@pytest.mark.parametrize("size", [0, 2])
def test_of_many_processes_that_send_one_commit_one_writes(durable: Storage, size: int) -> None:
    """Each with connections and memories of its own, and with other appends in between."""
    stores = [durable.open() for _ in range(4)]
    for _ in range(10):
        events, commit_id = stream(note(), size), uuid4()
        works = [partial(store.append, events, commit_id=commit_id) for store in stores]
        others = [partial(store.append, [noted(note(), 1)]) for store in stores]
        outcomes = at_once([*works, *others])[: len(works)]
        commits = [outcome for outcome in outcomes if isinstance(outcome, Commit)]
        assert sorted(commit.replayed for commit in commits) == [False, True, True, True]
        assert len({(commit.first, commit.last) for commit in commits}) == 1


def test_a_conflict_fails_only_the_append_that_has_it(store: EventStore) -> None:
    stale = note()
    store.append([noted(stale, 1)])
    for _ in range(10):
        before = store.head()
        refs = [note() for _ in range(THREADS)]
        # The third has written two events of its own by the time that its conflict shows.
        appends = [[noted(ref, 1), counted(ref, 2)] for ref in refs]
        appends[2].append(noted(stale, 1))
        outcomes = at_once([partial(store.append, events) for events in appends])
        failed = [n for n, o in enumerate(outcomes) if isinstance(o, ConcurrencyError)]
        assert failed == [2]
        assert store.head() == before + 2 * (THREADS - 1)
        for events, outcome in zip(appends, outcomes, strict=True):
            if isinstance(outcome, Commit):
                written = store.read(Query(after=outcome.first - 1, to=outcome.last))
                assert [event.id for event in written] == [event.id for event in events]
        assert list(store.read(Query(refs=[refs[2]]))) == []


@contextmanager
def writing(store: EventStore, commits: int) -> Iterator[Callable[[], bool]]:
    """Eight threads that append commits of 1 to 3 events. Yields whether all of them are done."""

    def write(thread: int) -> None:
        mine = note()
        version = 0
        for number in range(commits):
            size = 1 + (number + thread) % 3
            events: list[AnyEvent] = stream(mine, size, after=version)
            if number % 4 == 0:
                events.append(counted(note(), 1, number))
            store.append(events)
            version += size

    with ThreadPoolExecutor(THREADS) as pool:
        writers: list[Future[None]] = [pool.submit(write, n) for n in range(THREADS)]
        yield lambda: all(writer.done() for writer in writers)
        for writer in writers:
            writer.result()


def test_a_reader_beside_writers_never_sees_a_gap_or_a_late_event(store: EventStore) -> None:
    seen: list[int] = []
    with writing(store, 40) as done:
        last_round = False
        while not last_round:
            last_round = done()
            head = store.head()
            read = positions(store.read(Query(after=len(seen))))
            # Nothing missing, neither between nor at the end: what the head counts can be read.
            assert read == list(range(len(seen) + 1, len(seen) + len(read) + 1))
            assert len(seen) + len(read) >= head
            seen += read
    assert len(seen) == store.head() > THREADS * 40


def test_a_follower_of_some_events_misses_none(store: EventStore) -> None:
    queries: dict[str, Callable[[int], Query]] = {
        "names": lambda after: Query(names=["notebook.counted"], after=after),
        "aggregates": lambda after: Query(aggregates=["notebook.note"], after=after, limit=7),
        "versions": lambda after: Query(versions=(1, 1), after=after),
    }
    seen: dict[str, list[int]] = {name: [] for name in queries}
    with writing(store, 30) as done:
        last_round = False
        while not last_round:
            last_round = done()
            for name, query in queries.items():
                while read := positions(store.read(query(seen[name][-1] if seen[name] else 0))):
                    seen[name] += read
    for name, query in queries.items():
        whole = query(0)
        assert seen[name] == [e.position for e in store.read() if whole.matches(e)]


def test_a_reader_never_sees_half_a_commit(store: EventStore) -> None:
    with ThreadPoolExecutor(2) as pool:

        def write() -> None:
            for _ in range(50):
                store.append([noted(note(), 1), noted(note(), 1), noted(note(), 1)])

        writers = [pool.submit(write) for _ in range(2)]
        while not all(writer.done() for writer in writers):
            assert store.head() % 3 == 0
            assert sum(1 for _ in store.read(Query(limit=999))) % 3 == 0
        for writer in writers:
            writer.result()
    assert store.head() == 300


# Not MongoDB, whose driver has locks of its own that Ctrl-C breaks.
# A connection that is dropped just when it is opened is closed by its destructor, which warns.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("new_storage", ["memory", "sqlite", "postgres"], indirect=True)
def test_ctrl_c_in_one_writer_neither_stops_the_others_nor_tears_or_loses_a_commit(
    new_storage: NewStorage, eventually: Eventually, ctrl_c: None
) -> None:
    storage = new_storage()
    backend = storage.backend()
    store = backend.events(registry())
    snapshot = Snapshot(note(), 1, new_id(), "shape", b"state")
    acknowledged: list[UUID] = []

    def write() -> None:
        store.append(stream(note(), 2))
        backend.snapshots.save(snapshot)

    def go_on_writing(stopping: threading.Event) -> None:
        while not stopping.is_set():
            with suppress(CommitInDoubtError):
                ref = note()
                for version in (0, 2, 4):
                    commit = store.append(stream(ref, 2, after=version))
                    acknowledged.append(commit.id)

    def await_more() -> None:
        seen = len(acknowledged)
        eventually(lambda: len(acknowledged) > seen + 10)

    others = [BackgroundThread(name, go_on_writing) for name in "ab"]
    for other in others:
        other.start()
    try:
        for _ in range(150):
            press_ctrl_c_during(write)
            await_more()
    finally:
        ended = [other.close(10) for other in others]
    assert all(ended)

    if storage.url != "memory://":
        storage.close()
        store = storage.open()
    events = list(store.read())
    assert positions(events) == list(range(1, len(events) + 1))
    assert sum(commit.size for commit in store.commits()) == len(events)
    assert not [ref for ref, n in Counter(e.aggregate for e in events).items() if n % 2]
    assert all(store.find_commit(id) for id in acknowledged)
