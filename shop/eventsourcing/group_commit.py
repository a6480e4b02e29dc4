"""Group commit: threads that write at the same time share one transaction.

A caller who finds no commit under way leads at once, alone: an idle store never waits for company.
Those who come meanwhile queue, and the first of them leads the next group. Each caller still gets
its own outcome. The idea is that of DeWitt et al., "Implementation Techniques for Main Memory
Database Systems" (SIGMOD 1984), section 5.2.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from shop.eventsourcing.errors import CommitInDoubtError, StoreClosedError

T = TypeVar("T")


class Entry(Generic[T]):
    """One caller's work in a group, and its outcome: a result or an error."""

    __slots__ = ("_turn", "error", "leads", "result", "work")

    def __init__(self, work: T) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.leads = False
        # A plain lock, taken here and released by whoever ends the wait: far cheaper than an Event.
        self._turn = threading.Lock()
        self._turn.acquire()

    def wait(self) -> None:
        """Block until the outcome is there or it is this caller's turn to lead."""
        self._turn.acquire()

    def end_wait(self) -> None:
        """Let the waiting caller go on. Called once."""
        self._turn.release()


class GroupCommit(Generic[T]):
    """Collects the work of concurrent callers into groups, committed one after the other.

    ``commit`` is called with one group at a time, by one of the callers' threads, and sets
    ``result`` or ``error`` of every entry. What it raises becomes the error of all.
    """

    def __init__(
        self, commit: Callable[[Sequence[Entry[T]]], None], *, largest_group: int = 256
    ) -> None:
        self._commit = commit
        self._largest_group = largest_group
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._queue: deque[Entry[T]] = deque()
        self._busy = False
        self._closed = False

    def submit(self, work: T) -> Any:
        """Have the work committed, together with what others submit meanwhile.

        Blocks; returns the entry's result or raises its error. Raises
        :class:`StoreClosedError` after ``close``.
        """
        [outcome] = self.submit_each([work])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def submit_each(self, works: Sequence[T]) -> list[Any]:
        """Have all these works committed, in order; return for each its result or its error.

        As :meth:`submit` otherwise.
        """
        entries = [Entry(work) for work in works]
        with self._lock:
            if self._closed:
                return [StoreClosedError("the store is closed")] * len(entries)
            self._queue.extend(entries)
            if entries and not self._busy:
                self._busy = entries[0].leads = True
        try:
            for entry in entries:
                if not entry.leads:
                    entry.wait()
                if entry.leads:
                    self._lead()
        except BaseException:  # such as Ctrl-C: nobody is to wait for a leader who has gone
            for entry in entries:
                self._leave(entry)
            raise
        return [entry.result if entry.error is None else entry.error for entry in entries]

    def close(self, timeout: float | None = None) -> bool:
        """Refuse further work and wait until what was submitted is done; idempotent.

        At most ``timeout`` seconds, if given; returns whether it is done.
        """
        with self._idle:
            self._closed = True
            return self._idle.wait_for(lambda: not self._busy, timeout)

    def _lead(self) -> None:
        """Commit one group, which this thread's own entry is the first of; then hand over."""
        with self._lock:
            size = min(len(self._queue), self._largest_group)
            group = [self._queue.popleft() for _ in range(size)]
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - every caller must get an outcome
            for entry in group:
                entry.error = error
        except BaseException:  # such as Ctrl-C, which is the leader's alone
            for entry in group:
                entry.error = CommitInDoubtError("the commit was interrupted")
            raise
        finally:
            self._hand_over()
            for entry in group[1:]:
                entry.end_wait()

    def _hand_over(self) -> None:
        """Have the first in the queue lead the next group."""
        with self._lock:
            if self._queue:
                self._queue[0].leads = True
                self._queue[0].end_wait()
            else:
                self._busy = False
                self._idle.notify_all()

    def _leave(self, entry: Entry[T]) -> None:
        """Take back what is not being committed yet, and pass on the lead if it came meanwhile."""
        with self._lock:
            if entry not in self._queue:
                return
            self._queue.remove(entry)
        if entry.leads:
            self._hand_over()
