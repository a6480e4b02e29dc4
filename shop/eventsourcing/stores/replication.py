"""Making one store the same as another: the engine of copies, exports and imports.

What is moved is a *history*: commits in their order, each with its events. Commits without events
that found the same head are in the order of their ids. A history comes from a store or from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import groupby, islice, takewhile

import msgspec

from shop.eventsourcing.errors import ReplicationError, StoreError, VerificationError
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.stores.store import Commit, EventStore, Query

HistoryEntry = tuple[Commit, Sequence[Event[EventData]]]
"""A commit and its events."""
Listener = Callable[[int], None]
"""Told the position reached, now and then."""

BATCH = 1000
"""Events and commits that are written together."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class Replicated(msgspec.Struct, frozen=True):
    """What :func:`replicate` took in."""

    commits: int
    events: int
    new_commits: int
    """Of these, how many the store did not have yet."""
    fingerprint: bytes
    """Stands for all of it; see :func:`verify`."""


def history(store: EventStore, to: int) -> Iterator[HistoryEntry]:
    """All commits up to a head that the store has, or had. Memory stays flat.

    The store may grow meanwhile. Of its commits without events that found just this head, those
    made meanwhile may be among them.
    """
    events = store.read(Query(to=to))
    commits = takewhile(lambda commit: commit.last <= to, store.commits())
    for _, same_head in groupby(commits, key=lambda commit: commit.last):
        for commit in sorted(same_head, key=_order):
            its_events = list(islice(events, commit.size))
            if [event.position for event in its_events] != list(commit.positions):
                raise StoreError(
                    f"the store has not all events of commit {commit.id}, {commit.first} to"
                    f" {commit.last}"
                )
            yield commit, its_events


def _order(commit: Commit) -> tuple[bool, bytes]:
    return commit.size == 0, commit.id.bytes


def follows(commit: Commit, before: Commit | None) -> bool:
    """Whether a commit may come right after another one in a history, or be the first one."""
    if before is None:
        return commit.first == 1
    if commit.last == before.last:
        return _order(before) < _order(commit) and not commit.size
    return commit.size > 0 and commit.first == before.last + 1


def replicate(
    entries: Iterable[HistoryEntry],
    store: EventStore,
    on_progress: Listener = lambda position: None,
) -> Replicated:
    """Have a store hold this history and nothing else.

    What the store has already must be the beginning of it, and is compared with it. Only then is
    the rest written, batch by batch, each commit whole: however it ends, the same call goes on from
    there. Raises :class:`ReplicationError` where the store has anything else, and then leaves it as
    it is; also where another program writes to it meanwhile.
    """
    head = store.head()
    stored = history(store, head)
    expected = next(stored, None)
    batch: list[HistoryEntry] = []
    commits = events = new = size = 0
    hasher = blake2b()
    for entry in entries:
        commit, its_events = entry
        hasher.update(_encode(entry))
        commits += 1
        events += len(its_events)
        if entry == expected:
            expected = next(stored, None)
            if commits % BATCH == 0:
                on_progress(commit.last)
        elif expected is None or (commit.last == head and not commit.size):
            batch.append(entry)
            new += 1
            size += 1 + len(its_events)
        else:
            there = expected[0].id
            reason = f"in its place the target has commit {there}"
            if there == commit.id:
                reason = "the target has it with other content"
            raise ReplicationError(commit.id, commit.first, reason)
        if expected is None and size >= BATCH:
            store.replicate(batch)
            batch.clear()
            size = 0
            on_progress(commit.last)
    if expected is not None:
        raise ReplicationError(
            expected[0].id, expected[0].first, "it is in the target and not in the source"
        )
    store.replicate(batch)
    on_progress(events)
    return Replicated(commits, events, new, hasher.digest())


def verify(
    replicated: Replicated, store: EventStore, on_progress: Listener = lambda position: None
) -> None:
    """Read the store and make sure that it holds what was replicated into it, and nothing else.

    Raises :class:`VerificationError` where it does not.
    """
    hasher = blake2b()
    for number, entry in enumerate(history(store, store.head()), 1):
        hasher.update(_encode(entry))
        if number % BATCH == 0:
            on_progress(entry[0].last)
    on_progress(replicated.events)
    if hasher.digest() != replicated.fingerprint:
        raise VerificationError
