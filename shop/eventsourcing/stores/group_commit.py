"""Group commit: threads that write at the same time share one transaction.

A caller who finds no commit under way leads at once, alone: an idle store never waits for company.
Those who come meanwhile queue, and are committed together. Each caller still gets its own outcome.
The idea is that of DeWitt et al., "Implementation Techniques for Main Memory Database Systems"
(SIGMOD 1984), section 5.2.

Callers who write one thing after the other come again as soon as they have their outcome, one
after the other as well. The first of them would be committed alone, and the others after it. So
after a group they wait for each other a moment, for which one commit less more than makes up.

A ``GroupCommit`` is thus in one of these states:

- idle: nobody is queued
- waiting: callers are queued, and the others of the last group are expected. The first in the
  queue waits until they are there or the time is over, and leads then, unless the caller who
  completes the company has begun to lead already
- appointed: the next leader is known and has been called, but has not begun yet
- committing: the leader commits a group
- closed: no further work is taken
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from shop.eventsourcing.errors import CommitInDoubtError, StoreClosedError

T = TypeVar("T")

_COMMITS_WAITED = 2.0
"""How long callers wait for each other at most, measured by the time that the last commit took."""
_MAX_WAIT = 0.002
"""The same in seconds: threads that come again at once are back by then."""
_MAX_SKIPS = 63
"""For how many commits nobody waits, at most, after waits that gathered too few."""


class Entry(Generic[T]):
    """One piece of a caller's work in a group, and what came of it."""

    __slots__ = ("_calls", "abandoned", "done", "is_last", "next", "outcome", "work")

    def __init__(self, work: T, *, is_last: bool) -> None:
        self.work = work
        self.is_last = is_last
        """Whether it is the last of its caller's."""
        self.outcome: Any = None
        """Its result, or the error that its caller gets."""
        self.done = False
        self.abandoned = False
        """Whether the caller was interrupted and does not wait for the outcome."""
        self.next: Entry[T] | None = None
        """The one after it in the group."""
        self._calls: SimpleQueue[None] = SimpleQueue()

    def wait(self, timeout: float | None) -> None:
        """Block until called, at most ``timeout`` seconds."""
        with suppress(Empty):
            self._calls.get(timeout=timeout)

    def call(self) -> None:
        """End the wait under way, or the next one: there is an outcome, or something to do."""
        self._calls.put(None)

    def call_next(self) -> None:
        """Call the caller of the next entry in the group, now that this one is done.

        If all were called at once, they would only queue for the interpreter's lock.
        """
        following = self.next
        while following is not None and following.abandoned:
            following = following.next
        if following is not None:
            following.call()


class _Company:
    """Decides how long the next group waits for callers who are about to come again.

    After a wait that gathered too few, the next 1, 3, 7 … commits are not waited for. Not
    thread-safe: used with the lock held.
    """

    def __init__(self) -> None:
        self._expected = 0
        self._until = 0.0
        self._skips = self._next_skips = 0

    def expect(self, callers: int, *, commit_seconds: float) -> bool:
        """After a commit, expect so many callers; returns whether they are waited for."""
        self._expected = callers
        self._until = 0.0
        if self._skips:
            self._skips -= 1
            return False
        if callers > 1:
            wait = min(_COMMITS_WAITED * commit_seconds, _MAX_WAIT)
            self._until = time.monotonic() + wait
        return True

    def seconds_left(self, queued: int) -> float:
        """How long to wait for further callers, when so many are queued. 0 or less: no longer."""
        return self._until - time.monotonic() if queued < self._expected else 0.0

    def gathered(self, queued: int) -> None:
        """When a leader begins: learn whether the wait, if there was one, was worth it."""
        if self._until:
            if queued < self._expected:
                self._next_skips = min(2 * self._next_skips + 1, _MAX_SKIPS)
            else:
                self._next_skips //= 2
            self._skips = self._next_skips


class GroupCommit(Generic[T]):
    """Collects the work of concurrent callers into groups, committed one after the other.

    ``commit`` is called with one group at a time, by one of the callers' threads, and sets
    ``outcome`` of every entry. What it raises becomes the error of all.

    A caller may be interrupted anywhere, as by Ctrl-C: the others go on. Python raises such an
    exception only in or after a call, or when a loop goes round. So what must change together is
    assigned by one statement, and a leader remains one until nothing is left to do: then
    :meth:`_leave` does it.
    """

    def __init__(
        self, commit: Callable[[Sequence[Entry[T]]], None], *, largest_group: int = 256
    ) -> None:
        self._commit = commit
        self._largest_group = largest_group
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._queue: list[Entry[T]] = []
        self._queued_callers = 0
        self._company = _Company()
        self._leader: Entry[T] | None = None
        """The entry whose caller is appointed or committing."""
        self._group: list[Entry[T]] = []
        """What it commits, empty before it has begun."""
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
        entries = [Entry(work, is_last=n == len(works)) for n, work in enumerate(works, 1)]
        callers = min(1, len(entries))
        try:
            with self._lock:
                if self._closed:
                    return [StoreClosedError("the store is closed")] * len(entries)
                self._queue += entries
                self._queued_callers += callers
            for entry in entries:
                while not entry.done:
                    leads, seconds = self._turn(entry)
                    if leads:
                        self._lead()
                    else:
                        entry.wait(seconds)
                entry.call_next()
        except BaseException:  # such as Ctrl-C: nobody is to wait for a leader who has gone
            self._leave(entries)
            raise
        return [entry.outcome for entry in entries]

    def close(self, timeout: float | None = None) -> bool:
        """Refuse further work and wait until what was submitted is done; idempotent.

        At most ``timeout`` seconds, if given; returns whether it is done.
        """
        with self._lock:
            self._closed = True
            return self._idle.wait_for(lambda: not self._leader and not self._queue, timeout)

    def _turn(self, entry: Entry[T]) -> tuple[bool, float | None]:
        """Whether the entry's caller is to lead now, and otherwise for how long it is to wait."""
        with self._lock:
            if self._leader is entry:
                return True, None
            if self._leader is not None or entry.done:
                return False, None
            seconds = self._company.seconds_left(self._queued_callers)
            if seconds > 0:
                return False, seconds if self._queue[0] is entry else None
            self._company.gathered(self._queued_callers)
            self._leader = entry
            return True, None

    def _lead(self) -> None:
        """Commit one group; then let others lead."""
        began = time.monotonic()
        with self._lock:
            group, left = self._queue[: self._largest_group], self._queue[self._largest_group :]
            callers = sum(entry.is_last for entry in group)
            self._group, self._queue = group, left
            self._queued_callers -= callers
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - every caller must get an outcome
            for entry in group:
                entry.outcome = error
        with self._lock:
            self._end_group()
            expected = callers + self._queued_callers
            seconds = time.monotonic() - began
            waits = self._company.expect(expected, commit_seconds=seconds)
            appointed = None if waits or not self._queue else self._queue[0]
            self._leader, self._group = appointed, []
            self._call_first()

    def _end_group(self) -> None:
        """With the lock held, tell those in the group that they are done."""
        following = None
        for entry in reversed(self._group):  # an entry that is done has only such after it
            entry.next, entry.done, following = following, True, entry
        if following is not None:
            following.call()
            if following.abandoned:
                following.call_next()

    def _leave(self, entries: Sequence[Entry[T]]) -> None:
        """Take entries back that are not being committed yet, and else let nobody wait for them."""
        try:
            with self._lock:
                left = [entry for entry in self._queue if entry not in entries]
                callers = sum(entry.is_last for entry in left)
                self._queue, self._queued_callers = left, callers
                for entry in entries:
                    entry.abandoned = True
                if self._leader in entries:
                    for entry in self._group:
                        if not entry.done:
                            entry.outcome = CommitInDoubtError("the commit was interrupted")
                    self._end_group()
                    self._leader, self._group = None, []
                self._call_first()
            for entry in entries:
                if entry.done:
                    entry.call_next()
        except BaseException:  # interrupted once more: to do it twice does no harm
            self._leave(entries)
            raise

    def _call_first(self) -> None:
        """With the lock held, have the first in the queue see to the next group."""
        if self._queue:
            self._queue[0].call()
        else:
            self._idle.notify_all()
