"""Group commit: threads that write at the same time share one transaction.

A caller who finds no commit under way leads at once, alone: an idle store never waits for company.
Those who come meanwhile queue, and are committed together. Each caller still gets its own outcome.
The idea is that of DeWitt et al., "Implementation Techniques for Main Memory Database Systems"
(SIGMOD 1984), section 5.2.

Callers who write one thing after the other come again as soon as they have their outcome, one
after the other as well. The first of them would be committed alone, and the others after it. So
after a group they wait for each other a moment, for which one commit less more than makes up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from shop.eventsourcing.errors import CommitInDoubtError, StoreClosedError

T = TypeVar("T")

_PATIENCE = 1.0
"""How long callers wait for each other, measured by the time that the last commit took."""
_LONGEST_WAIT = 0.002
"""Seconds for which they do so at most: threads that come again at once are back by then."""
_LONGEST_REST = 63
"""Commits for which nobody waits where it was in vain time and again."""


class Entry(Generic[T]):
    """One caller's work in a group, and its outcome: a result or an error."""

    __slots__ = ("_calls", "done", "error", "last", "left", "next", "result", "work")

    def __init__(self, work: T, *, last: bool) -> None:
        self.work = work
        self.last = last
        """Whether it is the last of its caller's."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.left = False
        """Whether the caller has gone before that."""
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
        """Call who comes next in the group, now that this one is done.

        All called at once would only queue for the interpreter's lock, and be woken in vain.
        """
        following = self.next
        while following is not None and following.left:
            following = following.next
        if following is not None:
            following.call()


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
        self._heir: Entry[T] | None = None
        """Who is to lead the next group and has not begun; it counts as busy."""
        self._closed = False
        self._callers = 0
        """How many there are in the queue, by their last entries."""
        self._company = 0
        """How many the next group is to have, if they come until the time below."""
        self._until = 0.0
        self._rest = self._next_rest = 0
        """For how many commits nobody waits, and for how many if it is in vain after that."""

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
        entries = [Entry(work, last=n == len(works)) for n, work in enumerate(works, 1)]
        with self._lock:
            if self._closed:
                return [StoreClosedError("the store is closed")] * len(entries)
            self._queue.extend(entries)
            self._callers += bool(entries)
        try:
            for entry in entries:
                while not entry.done:
                    leads, patience = self._turn(entry)
                    if leads:
                        self._lead()
                    else:
                        entry.wait(patience)
                entry.call_next()
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
            return self._idle.wait_for(lambda: not self._busy and not self._queue, timeout)

    def _turn(self, entry: Entry[T]) -> tuple[bool, float | None]:
        """Whether the caller is to lead the next group, and else how long he is to wait."""
        with self._lock:
            if self._heir is entry:
                return True, None
            if self._busy or entry.done:
                return False, None
            left = self._until - time.monotonic()
            if self._callers < self._company and left > 0:
                return False, left if self._queue[0] is entry else None
            self._busy, self._heir = True, entry
            if self._until:
                if self._callers < self._company:
                    self._next_rest = min(2 * self._next_rest + 1, _LONGEST_REST)
                else:
                    self._next_rest //= 2
                self._rest = self._next_rest
            return True, None

    def _lead(self) -> None:
        """Commit one group; then let others lead."""
        began = time.monotonic()
        with self._lock:
            self._heir = None
            size = min(len(self._queue), self._largest_group)
            group = [self._queue.popleft() for _ in range(size)]
            callers = sum(entry.last for entry in group)
            self._callers -= callers
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
            following = None
            for entry in reversed(group):  # so that who is done calls those alone who are, too
                entry.next, entry.done, following = following, True, entry
            self._hand_over(callers, began)
            group[0].call()
            if group[0].left:
                group[0].call_next()

    def _hand_over(self, callers: int, began: float) -> None:
        """After a group of so many callers, let others lead."""
        with self._lock:
            self._company = callers + self._callers
            self._until = 0.0
            self._busy = False
            if self._rest:
                self._rest -= 1
                self._appoint()
            elif self._company > 1:
                now = time.monotonic()
                self._until = now + min(_PATIENCE * (now - began), _LONGEST_WAIT)
            self._call_first()

    def _appoint(self) -> None:
        """With the lock held, have the first in the queue lead, and nobody else before he does."""
        self._heir = self._queue[0] if self._queue else None
        self._busy = self._heir is not None

    def _leave(self, entry: Entry[T]) -> None:
        """Take back what is not being committed yet; of the rest, hold nobody up."""
        with self._lock:
            if entry in self._queue:
                self._queue.remove(entry)
                self._callers -= entry.last
                if self._heir is entry:
                    self._appoint()
                self._call_first()
                return
        entry.left = True
        if entry.done:
            entry.call_next()

    def _call_first(self) -> None:
        """With the lock held, have the first in the queue see to the next group."""
        if self._queue:
            self._queue[0].call()
        else:
            self._idle.notify_all()
