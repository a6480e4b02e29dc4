"""SQLite: its commits, and what may come in their way."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from shop.backends.sqlite import Database, SqliteEventStore
from shop.eventsourcing import (
    AggregateRef,
    CommitInDoubtError,
    ConcurrencyError,
    EventIdReusedError,
    Query,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from tests.backends.sqlite.conftest import OpenStore, behind_its_back
from tests.conftest import Eventually
from tests.notebook import counted, note, noted, positions, registry, stream


def test_every_commit_is_on_disk_when_it_returns(database: Database) -> None:
    assert database.read("PRAGMA journal_mode") == [("wal",)]
    full = 2
    assert database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (full,)
    assert database.read("PRAGMA synchronous") == [(full,)]


@pytest.mark.parametrize("part", ["", "-wal", "-shm"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_goes_away_under_it_takes_nothing_until_it_is_back(
    database: Database,
    store: SqliteEventStore,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    *,
    replaced: bool,
) -> None:
    monkeypatch.setattr("shop.backends.sqlite.database._LOOK", 0.01)
    store.append([noted(note(), 1)])
    file = Path(f"{database.path}{part}")
    aside = tmp_path / "aside"
    file.rename(aside)
    if replaced:
        file.touch()

    def refused(use: Callable[[], object]) -> bool:
        try:
            use()
        except StoreUnavailableError as error:
            return f"{file} was deleted, moved or replaced while it is" in str(error)
        return False

    eventually(lambda: refused(store.head))
    assert refused(lambda: store.append([noted(note(), 1)]))
    aside.replace(file)
    assert store.append([noted(note(), 1)]).first == store.head() == 2


def test_a_commit_may_be_larger_than_a_statement(
    database: Database, store: SqliteEventStore
) -> None:
    # As SQLite is built by default; some distributions allow a statement more.
    database.write(lambda c: c.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766))
    refs = [note() for _ in range(20_000)]
    assert store.append([noted(ref, 1) for ref in refs]).last == 20_000
    assert store.append([], guards=dict.fromkeys(refs, 1)).last == 20_000
    with pytest.raises(ConcurrencyError):
        store.append([], guards=dict.fromkeys(refs, 1) | {refs[-1]: 2})


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError):
        database.read("DELETE FROM events")


# Locks that others hold.


def test_a_lock_that_is_held_too_long_is_told_with_the_seconds(
    path: Path, store: SqliteEventStore
) -> None:
    store.append([noted(note(), 1)])
    with behind_its_back(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match=r"held its lock for over 0\.3 s"):
            store.append([noted(note(), 1)])
        assert positions(store.read()) == [1]  # readers go on
        other.execute("ROLLBACK")
    assert store.append([noted(note(), 1)]).first == 2


def test_all_who_wait_for_a_lock_hear_of_it_in_time(path: Path, store: SqliteEventStore) -> None:
    """Not one after the other, each having waited as long again."""
    with behind_its_back(path) as other, ThreadPoolExecutor(16) as pool:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        works = [pool.submit(store.append, [noted(note(), 1)]) for _ in range(16)]
        assert all(isinstance(work.exception(10), StoreUnavailableError) for work in works)
        assert time.monotonic() - begun < 16 * 0.3 / 2
        other.execute("ROLLBACK")
    assert store.head() == 0


def test_a_lock_that_is_given_back_in_time_is_waited_for(path: Path, open_store: OpenStore) -> None:
    store = open_store(path, timeout=10)
    with behind_its_back(path) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        work = pool.submit(store.append, [noted(note(), 1)])
        assert positions(store.read()) == []
        other.execute("ROLLBACK")
        assert work.result(10).first == 1


def test_a_lock_that_is_not_given_back_keeps_nobody_from_closing(
    path: Path, eventually: Eventually
) -> None:
    database = Database(path, timeout=20)
    store = SqliteEventStore(database, registry())
    with behind_its_back(path) as other, ThreadPoolExecutor(2) as pool:
        other.execute("BEGIN IMMEDIATE")
        works = [pool.submit(store.append, [noted(note(), 1)]) for _ in range(2)]
        eventually(lambda: database._group._queue)  # the second waits for the first
        began = time.monotonic()
        database.close()
        assert time.monotonic() - began < 3
        other.execute("ROLLBACK")
        assert sorted(work.result(10).first for work in works) == [1, 2]
        with pytest.raises(StoreClosedError):
            store.append([noted(note(), 1)])


# A disk with no room.


def set_room(database: Database, pages: int) -> None:
    """How large the file may become, in pages: beyond that the disk is full."""
    database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())


def test_a_full_disk_is_told_of_and_loses_nothing(
    database: Database, store: SqliteEventStore
) -> None:
    ref, commit_id = note(), uuid4()
    store.append(stream(ref, 10))
    set_room(database, 40)
    large = [noted(ref, 11, "x" * 500_000)]
    with pytest.raises(StoreUnavailableError, match="the disk is full"):
        store.append(large, commit_id=commit_id)
    assert len(list(store.read())) == store.head() == 10
    assert store.find_commit(commit_id) is None
    small = store.append([noted(note(), 1)])  # what there is room for goes on
    assert small.first == 11
    set_room(database, 1_000_000)
    assert store.append(large, commit_id=commit_id).first == 12


def queue_behind(
    database: Database, works: Sequence[Callable[[], Any]], eventually: Callable[..., None]
) -> list[Any]:
    """The outcomes of works that wait for one and the same group to be committed, in order."""
    entered, release = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        entered.set()
        assert release.wait(10)

    with ThreadPoolExecutor(len(works) + 1) as pool:
        holding = pool.submit(database.write, hold)
        assert entered.wait(10)
        futures = []
        for number, work in enumerate(works, 1):
            futures.append(pool.submit(work))
            # Looked into, as nothing else tells who has come to wait in it.
            eventually(lambda number=number: len(database._group._queue) == number)
        release.set()
        holding.result(10)
        return [future.exception(10) or future.result() for future in futures]


def test_in_a_group_only_what_conflicts_fails(
    database: Database, store: SqliteEventStore, eventually: Callable[..., None]
) -> None:
    ref, stale = note(), note()
    store.append([noted(stale, 1)])
    appends = [
        [noted(ref, 1)],
        [noted(ref, 2)],
        [noted(note(), 1), noted(stale, 1)],
        [noted(ref, 3)],
        [noted(stale, 2)],
    ]
    outcomes = queue_behind(
        database, [partial(store.append, events) for events in appends], eventually
    )
    assert isinstance(outcomes[2], ConcurrencyError)
    assert [o.first for n, o in enumerate(outcomes) if n != 2] == [2, 3, 4, 5]
    assert store.head() == 5


def test_in_a_group_every_guard_is_checked_after_what_comes_before_it(
    database: Database, store: SqliteEventStore, eventually: Callable[..., None]
) -> None:
    looked_at, quiet = note(), note()
    store.append([noted(looked_at, 1), noted(quiet, 1)])
    outcomes = queue_behind(
        database,
        [
            partial(store.append, [noted(note(), 1)], guards={looked_at: 1}),
            partial(store.append, [noted(looked_at, 2)]),
            partial(store.append, [noted(note(), 1)], guards={looked_at: 1}),
            partial(store.append, [noted(note(), 1)], guards={looked_at: 2, quiet: 1}),
        ],
        eventually,
    )
    assert [isinstance(outcome, ConcurrencyError) for outcome in outcomes] == [
        False,
        False,
        True,
        False,
    ]
    assert store.head() == 5


def test_in_a_group_guards_that_contradict_each_other_fail_alone(
    database: Database, store: SqliteEventStore, eventually: Callable[..., None]
) -> None:
    ref = note()
    store.append(stream(ref, 2))
    outcomes = queue_behind(
        database,
        [
            partial(store.append, [noted(note(), 1)], guards={ref: 1}),
            partial(store.append, [noted(note(), 1)], guards={ref: 2}),
        ],
        eventually,
    )
    assert isinstance(outcomes[0], ConcurrencyError)
    assert outcomes[1].first == 3


def test_in_a_group_only_what_no_database_takes_fails(
    database: Database, store: SqliteEventStore, eventually: Callable[..., None]
) -> None:
    store.append([noted(note(), 1)])
    outcomes = queue_behind(
        database,
        [
            partial(store.append, [noted(note(), 1)]),
            partial(store.append, [noted(note(), 1)], guards={AggregateRef("\ud83d", uuid4()): 0}),
            partial(database.write, lambda connection: 7),
            partial(store.append, [noted(note(), 1)]),
        ],
        eventually,
    )
    assert isinstance(outcomes[1], UnicodeEncodeError)
    assert (outcomes[0].first, outcomes[2], outcomes[3].first) == (2, 7, 3)
    assert store.head() == 3


def test_a_kind_that_came_with_a_repeat_is_known_when_it_comes_for_good(
    store: SqliteEventStore,
) -> None:
    commit_id, ref = uuid4(), note()
    store.append([noted(ref, 1)], commit_id=commit_id, digest=b"the same")
    store.append([counted(ref, 2, 7)], commit_id=commit_id, digest=b"the same")  # a repeat
    store.append([counted(ref, 2, 7)])
    assert positions(store.read(Query(aggregates=[ref.name]))) == [1, 2]


def test_the_event_whose_id_is_stored_already_is_named_whatever_stands_before_it(
    store: SqliteEventStore,
) -> None:
    stored = noted(note(), 1)
    store.append([stored])
    again = msgspec.structs.replace(noted(note(), 1), id=stored.id)
    with pytest.raises(EventIdReusedError, match=str(stored.id)):
        store.append([*stream(note(), 250), again])


def test_a_group_is_one_transaction(
    database: Database, store: SqliteEventStore, eventually: Callable[..., None]
) -> None:
    statements: list[str] = []
    database.write(lambda c: c.set_trace_callback(statements.append))
    works = [partial(store.append, [noted(note(), 1)]) for _ in range(8)]
    outcomes = queue_behind(database, works, eventually)
    assert [outcome.first for outcome in outcomes] == [1, 2, 3, 4, 5, 6, 7, 8]
    # One for setting the trace, one for what held the others up, and one for all of them.
    assert statements.count("COMMIT") == 3


def test_a_repeat_in_its_own_group_is_told_the_first_outcome(
    database: Database, store: SqliteEventStore, eventually: Callable[..., None]
) -> None:
    statements: list[str] = []
    database.write(lambda c: c.set_trace_callback(statements.append))
    append = partial(store.append, stream(note(), 2), commit_id=uuid4())
    outcomes = queue_behind(database, [append, append], eventually)
    assert [(o.first, o.last, o.replayed) for o in outcomes] == [(1, 2, False), (1, 2, True)]
    assert "ROLLBACK" not in statements


def test_in_a_group_only_what_finds_no_room_fails(
    database: Database, store: SqliteEventStore, eventually: Callable[..., None]
) -> None:
    set_room(database, 40)
    appends = [[noted(note(), 1)], [noted(note(), 1, "x" * 500_000)], [noted(note(), 1)]]
    outcomes = queue_behind(
        database, [partial(store.append, events) for events in appends], eventually
    )
    assert isinstance(outcomes[1], StoreUnavailableError)
    assert [outcomes[0].first, outcomes[2].first] == [1, 2]


# A commit whose outcome is not told.


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


class Doubtful(sqlite3.Connection):
    """Loses the answer to a commit: it was done, or it was not."""

    lost = ""
    unreadable = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if Doubtful.unreadable and sql.startswith("SELECT"):
            raise io_error()
        if sql == "COMMIT" and Doubtful.lost:
            if Doubtful.lost == "done":
                super().execute(sql)
            Doubtful.lost = ""
            raise io_error()
        return super().execute(sql, parameters)


@pytest.fixture
def doubtful(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteEventStore]:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Doubtful))
    with SqliteEventStore(Database(path), registry(), owns_database=True) as store:
        store.head()
        yield store


def test_what_was_written_is_no_error_although_the_answer_was_lost(
    doubtful: SqliteEventStore,
) -> None:
    Doubtful.lost = "done"
    commit = doubtful.append(stream(note(), 2))
    assert (commit.first, commit.last) == (1, 2)
    assert doubtful.head() == 2


def test_what_was_not_written_is_an_error_and_may_be_tried_again(
    doubtful: SqliteEventStore,
) -> None:
    events, commit_id = stream(note(), 2), uuid4()
    Doubtful.lost = "not done"
    with pytest.raises(StoreUnavailableError, match="disk I/O error"):
        doubtful.append(events, commit_id=commit_id)
    assert doubtful.head() == 0
    assert not doubtful.append(events, commit_id=commit_id).replayed


def test_what_cannot_be_found_out_is_told_to_be_in_doubt(doubtful: SqliteEventStore) -> None:
    events, commit_id = stream(note(), 2), uuid4()
    Doubtful.lost, Doubtful.unreadable = "done", True
    with pytest.raises(CommitInDoubtError, match=rf"error\); whether commit {commit_id}"):
        doubtful.append(events, commit_id=commit_id)
    Doubtful.unreadable = False
    assert doubtful.append(events, commit_id=commit_id).replayed


# A writer that is interrupted.


class Interrupted(sqlite3.Connection):
    """Ctrl-C comes right after a statement that begins so, once."""

    after = ""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        cursor = super().execute(sql, parameters)
        if Interrupted.after and sql.startswith(Interrupted.after):
            Interrupted.after = ""
            raise KeyboardInterrupt
        return cursor


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
def test_what_follows_an_interrupted_write_is_on_disk(
    path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Interrupted))
    with SqliteEventStore(Database(path), registry(), owns_database=True) as store:
        store.append([noted(note(), 1)])
        Interrupted.after = statement
        with pytest.raises(KeyboardInterrupt):
            store.append([counted(note(), 1)])  # of a new kind: several statements
        known, new = store.append([noted(note(), 1)]), store.append([counted(note(), 1)])
        assert (known.first, new.first) in ({(2, 3)} if statement != "COMMIT" else {(3, 4)})
    assert open_store(path).head() == new.last
