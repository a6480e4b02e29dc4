"""Making one store the same as another."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from shop.backends.memory import MemoryEventStore
from shop.backends.sqlite import Database, SqliteEventStore
from shop.bootstrap import open_event_store
from shop.eventsourcing import (
    Commit,
    EventData,
    EventStore,
    Metadata,
    Registry,
    ReplicationError,
    StoreError,
    VerificationError,
    event,
)
from shop.eventsourcing.stores.replication import (
    BATCH,
    HistoryEntry,
    follows,
    history,
    replicate,
    verify,
)
from tests.notebook import AnyEvent, Noted, counted, note, noted, registry, stream


@pytest.fixture
def source() -> EventStore:
    return MemoryEventStore(registry())


@pytest.fixture
def target(local_url: str) -> Iterator[EventStore]:
    """An empty store, in memory and in a file."""
    with open_event_store(local_url, registry()) as store:
        yield store


def on_sqlite(path: Path) -> SqliteEventStore:
    return SqliteEventStore(Database(path), registry(), owns_database=True)


def fill(store: EventStore, commits: int) -> None:
    """Append commits of one event, of several, and of none."""
    ref = note()
    version = 0
    for number in range(commits):
        size = number % 4
        events = stream(ref, size, after=version)
        if events:
            events[-1] = msgspec.structs.replace(
                events[-1], metadata=Metadata(command_id=UUID(int=number), actor="Ada")
            )
        store.append([*events, counted(note(), 1)] if number % 7 == 3 else events)
        version += size


def everything(store: EventStore) -> list[HistoryEntry]:
    return list(history(store, store.head()))


def copy(source: EventStore, target: EventStore) -> int:
    """Copy and verify; return how many commits were new."""
    replicated = replicate(history(source, source.head()), target)
    verify(replicated, target)
    return replicated.new_commits


class TestHistory:
    def test_it_is_all_commits_each_with_its_events(self, source: EventStore) -> None:
        ref = note()
        events: list[AnyEvent] = [noted(ref, 1), counted(note(), 1)]
        first, second = source.append(events), source.append([noted(ref, 2)])
        [(one, its_events), (two, _)] = everything(source)
        assert (one.id, two.id) == (first.id, second.id)
        assert its_events == [event.at(p) for p, event in enumerate(events, 1)]

    def test_it_ends_at_the_head_that_was_given(self, source: EventStore) -> None:
        first = source.append(stream(note(), 2))
        entries = history(source, source.head())
        second = source.append([])
        source.append([noted(note(), 1)])
        assert [commit.id for commit, _ in entries] == [first.id, second.id]

    def test_commits_without_events_at_one_head_are_in_the_order_of_their_ids(
        self, source: EventStore
    ) -> None:
        ids = [UUID(int=number) for number in (3, 1, 2)]
        for id in ids:
            source.append([], commit_id=id)
        made = source.append([noted(note(), 1)], commit_id=UUID(int=9))
        for id in ids:
            source.append([], commit_id=UUID(int=10 + id.int))
        order = [commit.id.int for commit, _ in everything(source)]
        assert order == [1, 2, 3, made.id.int, 11, 12, 13]

    def test_each_commit_follows_the_one_before_and_no_other(self, source: EventStore) -> None:
        fill(source, 20)
        commits = [commit for commit, _ in everything(source)]
        for before, commit in zip([None, *commits], commits, strict=False):
            assert follows(commit, before)
        for number, commit in enumerate(commits):
            assert not any(follows(commit, later) for later in commits[number:])
        assert not follows(commits[-1], None)

    def test_events_that_are_missing_are_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        with on_sqlite(path) as store:
            store.append(stream(note(), 3))
            behind_its_back(path, "events_remain", "DELETE FROM events WHERE position = 2")
            with pytest.raises(StoreError, match="not all events of commit"):
                everything(store)


class TestCopying:
    def test_a_copy_has_the_same_history(self, source: EventStore, target: EventStore) -> None:
        fill(source, 50)
        assert copy(source, target) == 50
        assert everything(target) == everything(source)
        assert target.info().kinds == source.info().kinds
        assert target.info().identity != source.info().identity

    def test_a_store_without_events_is_copied_too(
        self, source: EventStore, target: EventStore
    ) -> None:
        assert copy(source, target) == 0
        source.append([])
        assert copy(source, target) == 1
        assert everything(target) == everything(source)

    def test_what_is_there_already_is_not_written_again(
        self, source: EventStore, target: EventStore
    ) -> None:
        fill(source, 30)
        copy(source, target)
        assert copy(source, target) == 0
        fill(source, 5)
        assert copy(source, target) == 5
        assert everything(target) == everything(source)

    @pytest.mark.parametrize("there", range(12))
    def test_it_goes_on_from_wherever_it_ended(
        self, source: EventStore, target: EventStore, there: int
    ) -> None:
        for _ in range(3):
            source.append([])
        source.append(stream(note(), 2))
        for _ in range(4):
            source.append([])
        fill(source, 6)
        target.replicate(everything(source)[:there])
        assert copy(source, target) == len(everything(source)) - there
        assert everything(target) == everything(source)

    def test_commits_without_events_may_come_in_between_those_that_were_copied(
        self, source: EventStore, target: EventStore
    ) -> None:
        source.append([noted(note(), 1)])
        source.append([], commit_id=UUID(int=2**127))
        copy(source, target)
        source.append([], commit_id=UUID(int=1))
        source.append([noted(note(), 1)])
        assert copy(source, target) == 2
        assert everything(target) == everything(source)

    def test_many_commits_are_written_in_batches_and_told(
        self, source: EventStore, target: EventStore
    ) -> None:
        ref = note()
        for version in range(1, 2 * BATCH + 2):
            source.append([noted(ref, version)])
        heads: list[tuple[int, int]] = []
        entries = history(source, source.head())
        replicated = replicate(entries, target, lambda p: heads.append((p, target.head())))
        assert [position for position, _ in heads][-1] == 2 * BATCH + 1
        assert all(position == head for position, head in heads)
        assert len(heads) > 3
        told: list[int] = []
        verify(replicated, target, told.append)
        assert told == [BATCH, 2 * BATCH, 2 * BATCH + 1]

    def test_memory_stays_flat(self, tmp_path: Path) -> None:
        peaks = []
        for commits in (4 * BATCH, 12 * BATCH):
            with on_sqlite(tmp_path / f"{commits}.db") as store:
                tracemalloc.start()
                verify(replicate(made_up(commits), store), store)
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        assert peaks[1] < 1.5 * peaks[0]


def made_up(commits: int) -> Iterator[HistoryEntry]:
    """A history that nobody holds."""
    for position in range(1, commits + 1):
        event = noted(note(), 1, "x" * 100).at(position)
        yield Commit(event.id, position, position, b"digest", replayed=True), [event]


class TestRefusal:
    def test_a_target_with_other_events_is_left_as_it_is(
        self, source: EventStore, target: EventStore
    ) -> None:
        fill(source, 10)
        target.append(stream(note(), 2))
        self.refused(source, target, "in its place the target has commit")

    def test_a_target_with_an_other_commit_without_events_is_left_as_it_is(
        self, source: EventStore, target: EventStore
    ) -> None:
        source.append([noted(note(), 1)])
        target.append([])
        self.refused(source, target, "in its place the target has commit")

    def test_it_is_left_so_also_where_much_could_be_written_before_that_is_known(
        self, source: EventStore, target: EventStore
    ) -> None:
        for number in range(BATCH + 1):
            source.append([], commit_id=UUID(int=number))
        target.append([], commit_id=UUID(int=2**128 - 1))
        self.refused(source, target, "in the target and not in the source")

    def test_a_target_that_has_more_is_left_as_it_is(
        self, source: EventStore, target: EventStore
    ) -> None:
        fill(source, 10)
        copy(source, target)
        target.append([noted(note(), 1)])
        self.refused(source, target, "in the target and not in the source")

    def test_a_target_that_went_another_way_is_left_as_it_is(
        self, source: EventStore, target: EventStore
    ) -> None:
        fill(source, 10)
        copy(source, target)
        target.append([noted(note(), 1)])
        source.append([noted(note(), 1)])
        self.refused(source, target, "in its place the target has commit")

    def test_a_commit_that_is_missing_before_the_end_is_not_made_up_for(
        self, source: EventStore, target: EventStore
    ) -> None:
        source.append([])
        source.append([noted(note(), 1)])
        source.append([noted(note(), 1)])
        target.replicate(everything(source)[1:2])
        self.refused(source, target, "in its place the target has commit")

    @pytest.mark.parametrize("column", ["data", "time", "metadata", "id"])
    def test_the_slightest_difference_is_noticed(
        self, source: EventStore, tmp_path: Path, column: str
    ) -> None:
        path = tmp_path / "a.db"
        fill(source, 20)
        with on_sqlite(path) as store:
            replicated = replicate(history(source, source.head()), store)
            behind_its_back(path, "events_stay", CHANGES[column])
            with pytest.raises(VerificationError, match="target differs from the source"):
                verify(replicated, store)
            source.append([noted(note(), 1)])
            self.refused(source, store, "the target has it with other content")

    def test_what_somebody_else_writes_meanwhile_is_noticed(
        self, source: EventStore, target: EventStore
    ) -> None:
        fill(source, 20)
        replicated = replicate(history(source, source.head()), target)
        target.append([])
        with pytest.raises(VerificationError):
            verify(replicated, target)

    def test_a_target_that_gets_other_events_at_the_same_time_is_given_up(
        self, source: EventStore, target: EventStore
    ) -> None:
        fill(source, BATCH)

        def interfere(position: int) -> None:
            if target.head() == position:
                target.append([noted(note(), 1)])

        with pytest.raises(ReplicationError, match="here it would begin at"):
            replicate(history(source, source.head()), target, interfere)

    def refused(self, source: EventStore, target: EventStore, why: str) -> None:
        before = everything(target)
        with pytest.raises(ReplicationError, match=why):
            copy(source, target)
        assert everything(target) == before


CHANGES = {
    "data": 'UPDATE events SET data = \'{"text":"an other note"}\' WHERE position = 2',
    "time": "UPDATE events SET time = time + 1 WHERE position = 2",
    "metadata": 'UPDATE events SET metadata = \'{"actor":"Bob"}\' WHERE position = 2',
    "id": "UPDATE events SET id = randomblob(16) WHERE position = 2",
}


def behind_its_back(path: Path, trigger: str, statement: str) -> None:
    """Change what a store of ours never does."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement)
        connection.commit()


@event("notebook.noted", version=2, upcasters={1: lambda fields: {**fields, "stars": 0}})
class NotedWithStars(EventData, frozen=True):
    text: str
    stars: int


def test_events_are_copied_as_this_program_reads_them(tmp_path: Path) -> None:
    """Those of an older schema version become the newest; commits keep their digests."""
    with on_sqlite(tmp_path / "old.db") as store:
        commit = store.append([noted(note(), 1, "milk")])
    newer = Registry[EventData]([NotedWithStars])
    source = SqliteEventStore(Database(tmp_path / "old.db"), newer, owns_database=True)
    with source, MemoryEventStore(newer) as target:
        copy(source, target)
        assert source.info().kinds == {(Noted.wire.name, 1)}
        assert target.info().kinds == {(Noted.wire.name, 2)}
        [copied] = target.read()
        assert copied.data == NotedWithStars("milk", 0)
        found = target.find_commit(commit.id)
        assert found is not None
        assert found.digest == commit.digest
