"""Group commit: who waits shares a commit, who is alone does not wait."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest

from shop.eventsourcing import CommitInDoubtError, StoreClosedError
from shop.eventsourcing.stores.group_commit import Entry, GroupCommit
from shop.eventsourcing.threads import BackgroundThread
from tests.interrupting import press_ctrl_c_during


class Gate:
    """A commit function that records its groups and can be held up in the middle."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.opened.set()
        self.active = 0

    def commit(self, group: Sequence[Entry[int]]) -> None:
        self.active += 1
        assert self.active == 1, "two groups at once"
        assert group
        self.groups.append([entry.work for entry in group])
        self.entered.set()
        assert self.opened.wait(10)
        for entry in group:
            if entry.work < 0:
                entry.outcome = ValueError(f"{entry.work} is negative")
            else:
                entry.outcome = entry.work * 10
        self.active -= 1

    def hold(self, group: GroupCommit[int], pool: ThreadPoolExecutor) -> Future[int]:
        """Have a work, 1, wait in its commit until ``opened`` is set."""
        self.opened.clear()
        self.entered.clear()
        first = pool.submit(group.submit, 1)
        assert self.entered.wait(10)
        return first


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


Queued = Callable[[GroupCommit[int], Sequence[int]], list[Future[int]]]


@pytest.fixture
def queued(pool: ThreadPoolExecutor, eventually: Callable[..., None]) -> Queued:
    """Submits works, in this order, while a commit is under way, and waits until all queue."""

    def submit(group: GroupCommit[int], works: Sequence[int]) -> list[Future[int]]:
        futures = []
        for work in works:
            # The queue is looked into: nothing else tells that a thread has come to wait in it.
            length = len(group._queue)
            futures.append(pool.submit(group.submit, work))
            eventually(lambda length=length: len(group._queue) == length + 1)
        return futures

    return submit


def test_a_lone_caller_is_committed_at_once_by_itself(gate: Gate) -> None:
    group = GroupCommit(gate.commit)
    assert [group.submit(work) for work in (1, 2, 3)] == [10, 20, 30]
    assert gate.groups == [[1], [2], [3]]


def test_those_who_come_during_a_commit_share_the_next(
    gate: Gate, pool: ThreadPoolExecutor, queued: Queued
) -> None:
    group = GroupCommit(gate.commit)
    first = gate.hold(group, pool)
    others = queued(group, [2, 3, 4])
    gate.opened.set()
    assert [future.result(10) for future in (first, *others)] == [10, 20, 30, 40]
    assert gate.groups == [[1], [2, 3, 4]]


def test_those_who_come_again_at_once_are_waited_for(
    gate: Gate, pool: ThreadPoolExecutor, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop.eventsourcing.stores.group_commit._COMMITS_WAITED", 1e6)
    monkeypatch.setattr("shop.eventsourcing.stores.group_commit._MAX_WAIT", 10)
    group = GroupCommit(gate.commit)
    gate.opened.clear()
    first = pool.submit(lambda: [group.submit(work) for work in (1, 2)])
    assert gate.entered.wait(10)
    others = queued(group, [3, 4])
    gate.opened.set()
    assert first.result(10) == [10, 20]
    assert [future.result(10) for future in others] == [30, 40]
    assert gate.groups == [[1], [3, 4, 2]]


def test_where_it_is_in_vain_nobody_is_waited_for_most_of_the_time(
    gate: Gate, pool: ThreadPoolExecutor, queued: Queued, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    wait = Entry.wait

    def counted(entry: Entry[int], timeout: float | None) -> None:
        if timeout is not None:
            waits.append(timeout)
        wait(entry, timeout)

    monkeypatch.setattr(Entry, "wait", counted)
    monkeypatch.setattr("shop.eventsourcing.stores.group_commit._COMMITS_WAITED", 100)
    group = GroupCommit(gate.commit)
    for _ in range(100):
        first = gate.hold(group, pool)
        others = queued(group, [2, 3])
        gate.opened.set()
        assert [future.result(10) for future in (first, *others)] == [10, 20, 30]
        assert group.submit_each([4, 5]) == [40, 50]
    assert gate.groups == [[1], [2, 3], [4, 5]] * 100
    assert 0 < len(waits) < 50


def test_a_group_has_a_largest_size(gate: Gate, pool: ThreadPoolExecutor, queued: Queued) -> None:
    group = GroupCommit(gate.commit, largest_group=2)
    first = gate.hold(group, pool)
    others = queued(group, [2, 3, 4, 5, 6])
    gate.opened.set()
    assert [future.result(10) for future in (first, *others)] == [10, 20, 30, 40, 50, 60]
    assert gate.groups == [[1], [2, 3], [4, 5], [6]]


def test_each_caller_gets_its_own_outcome(
    gate: Gate, pool: ThreadPoolExecutor, queued: Queued
) -> None:
    group = GroupCommit(gate.commit)
    first = gate.hold(group, pool)
    fine, bad, too = queued(group, [2, -3, 4])
    gate.opened.set()
    assert [future.result(10) for future in (first, fine, too)] == [10, 20, 40]
    with pytest.raises(ValueError, match="-3 is negative"):
        bad.result(10)


def test_what_the_commit_itself_raises_is_raised_to_all_and_the_next_group_goes_on(
    gate: Gate, pool: ThreadPoolExecutor, queued: Queued
) -> None:
    def commit(entries: Sequence[Entry[int]]) -> None:
        gate.commit(entries)
        if any(entry.work == 3 for entry in entries):
            raise OSError("no disk")

    group = GroupCommit(commit)
    first = gate.hold(group, pool)
    others = queued(group, [2, 3])
    gate.opened.set()
    assert first.result(10) == 10
    for future in others:
        with pytest.raises(OSError, match="no disk"):
            future.result(10)
    assert group.submit(5) == 50


def test_many_threads_lose_nothing_and_never_commit_at_once(
    gate: Gate, pool: ThreadPoolExecutor, restless: None
) -> None:
    group = GroupCommit(gate.commit, largest_group=20)
    works = range(20_000)
    assert list(pool.map(group.submit, works)) == [work * 10 for work in works]
    assert sorted(work for works in gate.groups for work in works) == list(works)


def test_who_is_interrupted_while_waiting_holds_nobody_up(
    gate: Gate, pool: ThreadPoolExecutor, eventually: Callable[..., None], ctrl_c: None
) -> None:
    group = GroupCommit(gate.commit)
    first = gate.hold(group, pool)

    def press_ctrl_c() -> Future[int]:
        eventually(lambda: len(group._queue) == 1)
        behind = pool.submit(group.submit, 3)
        eventually(lambda: len(group._queue) == 2)
        os.kill(os.getpid(), signal.SIGINT)
        return behind

    pressing = pool.submit(press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        group.submit(2)
    gate.opened.set()
    assert (first.result(10), pressing.result(10).result(10)) == (10, 30)
    assert gate.groups == [[1], [3]]
    group.close()


def test_who_is_interrupted_while_he_is_committed_holds_nobody_up(
    gate: Gate,
    pool: ThreadPoolExecutor,
    queued: Queued,
    eventually: Callable[..., None],
    ctrl_c: None,
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def commit(group: Sequence[Entry[int]]) -> None:
        gate.commit(group)
        if len(group) > 1:
            begun.set()
            assert goes_on.wait(10)

    group = GroupCommit(commit)
    first = gate.hold(group, pool)
    before = queued(group, [2])

    def press_ctrl_c() -> list[Future[int]]:
        eventually(lambda: len(group._queue) == 2)
        behind = queued(group, [4, 5])
        gate.opened.set()
        assert begun.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        return behind

    pressing = pool.submit(press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        group.submit(3)
    goes_on.set()
    others = [first, *before, *pressing.result(10)]
    assert [future.result(10) for future in others] == [10, 20, 40, 50]
    assert gate.groups == [[1], [2, 3, 4, 5]]
    group.close()


def test_an_interrupted_leader_leaves_the_others_in_doubt_but_not_waiting(
    gate: Gate, pool: ThreadPoolExecutor, queued: Queued
) -> None:
    def commit(group: Sequence[Entry[int]]) -> None:
        gate.commit(group)
        if group[0].work == 2:
            raise KeyboardInterrupt

    group = GroupCommit(commit)
    first = gate.hold(group, pool)
    leader, follower = queued(group, [2, 3])
    gate.opened.set()
    assert first.result(10) == 10
    assert isinstance(leader.exception(10), KeyboardInterrupt)
    assert isinstance(follower.exception(10), CommitInDoubtError)
    assert group.submit(4) == 40
    group.close()


def test_who_is_interrupted_at_any_moment_holds_nobody_up(
    eventually: Callable[..., None], restless: None, ctrl_c: None
) -> None:
    alone = threading.Lock()
    committed: list[int] = []

    def commit(entries: Sequence[Entry[int]]) -> None:
        assert not alone.locked(), "two groups at once"
        with alone:
            committed.extend(entry.work for entry in entries)
            for entry in entries:
                entry.outcome = entry.work * 10

    group = GroupCommit(commit, largest_group=3)
    numbers, done = count(), Counter[str]()

    def submit_more(stopping: threading.Event) -> None:
        while not stopping.is_set():
            number = next(numbers)
            with suppress(CommitInDoubtError):
                assert group.submit(number) == number * 10
            done[threading.current_thread().name] += 1

    others = [BackgroundThread(name, submit_more) for name in "abc"]
    for other in others:
        other.start()
    for _ in range(300):
        press_ctrl_c_during(lambda: group.submit_each([next(numbers) for _ in range(2)]))
        before = done.copy()
        eventually(lambda before=before: all(done[name] > before[name] for name in "abc"))
    assert all(other.close(10) for other in others)
    assert group.close(10)
    assert len(set(committed)) == len(committed)


def test_closing_waits_for_what_was_submitted_and_refuses_the_rest(
    gate: Gate, pool: ThreadPoolExecutor, queued: Queued, eventually: Callable[..., None]
) -> None:
    group = GroupCommit(gate.commit)
    first = gate.hold(group, pool)
    (second,) = queued(group, [2])
    closing = pool.submit(group.close)
    eventually(lambda: group._closed)
    with pytest.raises(StoreClosedError):
        group.submit(3)
    assert not closing.done()
    gate.opened.set()
    closing.result(10)
    assert (first.result(10), second.result(10)) == (10, 20)
    assert gate.groups == [[1], [2]]
    group.close()
