"""What all backends do with an append before they write it: check it, and decide its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import (
    CommitInDoubtError,
    CommitReusedError,
    ConcurrencyError,
    ReplicationError,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, check_metadata, new_id
from shop.eventsourcing.events.ordinal import GREATEST, check_count
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.events.types import check_types
from shop.eventsourcing.retry import Backoff
from shop.eventsourcing.stores.store import Commit, NewCommit

W = TypeVar("W")
Kind = tuple[str, str, int]
"""Name of an aggregate, name of an event and version of its schema: stores keep a list of these."""
CLOSE_SECONDS = 0.5
"""Seconds that appends under way have to end when their store is closed."""
_USUAL_TYPES = (UUID, str, UUID, int)
"""Of an event's id, its aggregate's name and id, and its version."""


class PreparedAppend(msgspec.Struct, frozen=True):
    """An append, checked in itself: what is left to check needs the store. For backends."""

    events: Sequence[Event[EventData]]
    payloads: Sequence[bytes]
    """The data of each event, as JSON."""
    commit_id: UUID
    digest: bytes
    written: Mapping[AggregateRef, int]
    """The version that the events of each aggregate continue."""
    guarded: Mapping[AggregateRef, int]
    """The version at which each other aggregate must stand."""

    @classmethod
    def of(
        cls,
        registry: Registry[EventData],
        commit: NewCommit,
    ) -> PreparedAppend:
        """Check the arguments of an append against one another, and encode the events' data.

        Raises ``TypeError`` where an id, a name, a version or metadata could not be read again,
        ``ValueError`` where two events have the same id or a version is none, and
        :class:`ConcurrencyError` where the events of one aggregate do not follow one another, or a
        guard contradicts them.
        """
        events = commit.events
        check_types(UUID, optional=True, commit_id=commit.commit_id)
        _check_envelopes(events)
        if len(events) > 1 and len({event.id for event in events}) < len(events):
            raise ValueError("two events of one append have the same id")
        guarded = dict(commit.guards or {})
        written: dict[AggregateRef, int] = {}
        reached: dict[AggregateRef, int] = {}
        for event in events:
            ref, before = event.aggregate, event.version - 1
            if reached.get(ref, before) != before:
                raise ConcurrencyError(ref, before, reached[ref])
            if ref not in reached:
                written[ref] = before
                guard = guarded.pop(ref, before)
                if guard != before:
                    raise ConcurrencyError(ref, before, guard)
            reached[ref] = event.version
        for ref, version in (*reached.items(), *guarded.items()):
            if not 0 <= version <= GREATEST:  # to format the name takes long
                check_count(f"the version of {ref}", version)
        payloads = [registry.encode(event.data) for event in events]
        return cls(
            events,
            payloads,
            commit.commit_id or new_id(),
            content_digest(events, payloads) if commit.digest is None else commit.digest,
            written,
            guarded,
        )

    @classmethod
    def of_replica(
        cls,
        registry: Registry[EventData],
        commit: Commit,
        events: Sequence[Event[EventData]],
    ) -> PreparedAppend:
        """The append that is to become a commit of another store.

        Raises :class:`ReplicationError` where its events contradict one another.
        """
        try:
            return cls.of(registry, NewCommit(events, commit.id, commit.digest))
        except (ValueError, ConcurrencyError) as error:
            raise ReplicationError(commit.id, commit.first, str(error)) from error

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of its events."""
        return {(e.aggregate.name, e.name, e.data.wire.version) for e in self.events}

    @property
    def expected(self) -> Mapping[AggregateRef, int]:
        """The version at which each aggregate must stand, for its events or as guarded."""
        return {**self.written, **self.guarded} if self.guarded else self.written

    def check(self, versions: Mapping[AggregateRef, int]) -> None:
        """Raise :class:`ConcurrencyError` unless all aggregates stand where they are expected.

        ``versions`` holds the current ones; an aggregate without events may be missing.
        """
        for ref, expected in self.expected.items():
            actual = versions.get(ref, 0)
            if actual != expected:
                raise ConcurrencyError(ref, expected, actual)

    def replay(self, known: Commit) -> Commit:
        """The outcome where the store knows the commit id: its first commit.

        Raises :class:`CommitReusedError` where that had other content.
        """
        if known.digest != self.digest:
            raise CommitReusedError(self.commit_id)
        return msgspec.structs.replace(known, replayed=True)


def _check_envelopes(events: Sequence[Event[EventData]]) -> None:
    """Raise ``TypeError`` for an envelope of wrong types: structs do not check theirs."""
    checked = None
    for event in events:
        ref, why = event.aggregate, event.metadata
        if (type(event.id), type(ref.name), type(ref.id), type(event.version)) != _USUAL_TYPES:
            check_types(UUID, event_id=event.id, aggregate_id=ref.id)
            check_types(str, aggregate=ref.name)
            check_types(int, version=event.version)
        if why is not checked:  # the events of a commit share theirs
            check_metadata(why)
            checked = why


def decide(
    appends: Sequence[PreparedAppend],
    head: int,
    versions: Mapping[AggregateRef, int],
    commits: Mapping[UUID, Commit],
) -> list[Commit | Exception]:
    """The outcomes of appends that are done one after the other, from what is in the store now.

    ``versions`` are those of all aggregates concerned (one without events may be missing) and
    ``commits`` those that are known of the appends' ids. What is to be written are the appends
    whose outcome is a commit that is not ``replayed``.
    """
    versions = dict(versions)
    commits = dict(commits)
    outcomes: list[Commit | Exception] = []
    for append in appends:
        try:
            known = commits.get(append.commit_id)
            if known is not None:
                outcomes.append(append.replay(known))
                continue
            append.check(versions)
        except (CommitReusedError, ConcurrencyError) as error:
            outcomes.append(error)
            continue
        versions |= {event.aggregate: event.version for event in append.events}
        commit = Commit(append.commit_id, head + 1, head + len(append.events), append.digest)
        commits[commit.id] = commit
        head = commit.last
        outcomes.append(commit)
    return outcomes


def check_replicas(commits: Sequence[Commit], outcomes: Sequence[Commit | Exception]) -> None:
    """Raise :class:`ReplicationError` unless appends became just what they were elsewhere."""
    for commit, outcome in zip(commits, outcomes, strict=True):
        if isinstance(outcome, Exception):
            raise ReplicationError(commit.id, commit.first, str(outcome)) from outcome
        if outcome.first != commit.first or outcome.last != commit.last:
            raise ReplicationError(
                commit.id, commit.first, f"here it would begin at position {outcome.first}"
            )


def settle_each(
    commits: Sequence[NewCommit],
    prepare: Callable[[NewCommit], W],
    append: Callable[[Sequence[W]], Sequence[Commit | Exception]],
) -> list[Commit | Exception]:
    """The outcomes of appends: ``append`` does those that ``prepare`` does not refuse.

    A commit whose id was made here is never reported as replayed, even if a repeat found it.
    """
    works: list[W] = []
    refused: dict[int, Exception] = {}
    for n, commit in enumerate(commits):
        try:
            works.append(prepare(commit))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this one's outcome
            refused[n] = error
    outcomes = list(append(works)) if works else []
    for n, refusal in refused.items():
        outcomes.insert(n, refusal)
    for n, outcome in enumerate(outcomes):
        if isinstance(outcome, Commit) and outcome.replayed and commits[n].commit_id is None:
            outcomes[n] = msgspec.structs.replace(outcome, replayed=False)
    return outcomes


def until_certain(
    append: Callable[[Sequence[W]], Sequence[Commit | Exception]],
    works: Sequence[W],
    *,
    timeout: float,
) -> list[Commit | Exception]:
    """Repeat appends, under their commit ids, until it is certain what became of them.

    To look whether one is stored would not do: what was cut off may still be on its way, and be
    stored after the look. A repeat either finds it, or takes its place. For at most ``timeout``
    seconds, and as long as there is hope: then :class:`CommitInDoubtError` tells how the doubt
    arose, and what kept it.
    """
    outcomes = list(append(works))
    doubts = {n: out for n, out in enumerate(outcomes) if isinstance(out, CommitInDoubtError)}
    if not doubts:
        return outcomes
    deadline = time.monotonic() + timeout
    backoff = Backoff(first=0.01, most=0.5)
    kept_by: dict[int, Exception] = {}
    while doubts and time.monotonic() < deadline:
        time.sleep(min(backoff.next_delay(), max(0.0, deadline - time.monotonic())))
        for n, outcome in zip(tuple(doubts), append([works[n] for n in doubts]), strict=True):
            outcomes[n] = outcome
            if not isinstance(outcome, StoreError):
                del doubts[n]
            else:
                kept_by[n] = outcome
        if not all(isinstance(outcomes[n], StoreUnavailableError) for n in doubts):
            break  # such as a closed store
    for n, doubt in doubts.items():
        kept = kept_by.get(n, doubt)
        then = "" if isinstance(kept, CommitInDoubtError) else f"; then: {kept}"
        outcomes[n] = told = CommitInDoubtError(
            f"{doubt}{then}; whether what was to be stored is stored is not known"
        )
        told.__cause__ = kept
    return outcomes


def content_digest(events: Sequence[Event[EventData]], payloads: Sequence[bytes]) -> bytes:
    """A hash of what the events say: aggregates, versions, names and data, not ids and times.

    A caller that builds the same events again after a lost answer is thus known to repeat them.
    """
    hasher = blake2b(digest_size=16)
    for event, payload in zip(events, payloads, strict=True):
        ref = event.aggregate
        hasher.update(msgspec.json.encode((ref.name, ref.id, event.version, event.name)))
        hasher.update(payload)
    return hasher.digest()
