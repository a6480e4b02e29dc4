"""The event store port: one ordered log of events, appended to in atomic commits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, Self
from uuid import UUID

import msgspec

from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.events.ordinal import check_count
from shop.eventsourcing.events.types import check_collection


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to read. Fields are combined with AND; ``None`` does not restrict.

    An empty collection matches nothing. Bounds are inclusive, but for ``after``. Raises
    ``ValueError`` for a time without a zone and for a number that is negative or beyond 64 bits,
    and ``TypeError`` for values that could match nothing, such as an id given as text.
    """

    ids: Collection[UUID] | None = None
    names: Collection[str] | None = None
    """Whole names of events: patterns are for subscriptions."""
    aggregates: Collection[str] | None = None
    """Names of aggregates: all events of that kind of aggregate."""
    aggregate_ids: Collection[UUID] | None = None
    refs: Collection[AggregateRef] | None = None
    """Exact aggregates."""
    versions: tuple[int | None, int | None] = (None, None)
    """Least and greatest version."""
    since: datetime | None = None
    until: datetime | None = None
    after: int = 0
    """Only events at positions greater than this."""
    to: int | None = None
    """Only events at positions up to and including this."""
    limit: int | None = None
    reverse: bool = False
    """Newest first."""

    def __post_init__(self) -> None:
        for name, time in (("since", self.since), ("until", self.until)):
            if time is not None and time.tzinfo is None:
                raise ValueError(f"{name} needs a time zone")
        low, high = self.versions
        for name, number in (
            ("after", self.after),
            ("to", self.to),
            ("limit", self.limit),
            ("versions", low),
            ("versions", high),
        ):
            if number is not None:
                check_count(name, number)
        for name, values, wanted in (
            ("ids", self.ids, UUID),
            ("names", self.names, str),
            ("aggregates", self.aggregates, str),
            ("aggregate_ids", self.aggregate_ids, UUID),
            ("refs", self.refs, AggregateRef),
        ):
            if values is not None:
                check_collection(name, values, wanted)

    def up_to(self, head: int) -> Query:
        """The same query, restricted to positions up to a head."""
        return msgspec.structs.replace(self, to=head if self.to is None else min(self.to, head))

    def matches(self, event: Event[EventData]) -> bool:
        """Whether a stored event is among those asked for (``limit`` aside)."""
        low, high = self.versions
        return (
            event.position > self.after
            and (self.to is None or event.position <= self.to)
            and (self.names is None or event.name in self.names)
            and (self.aggregates is None or event.aggregate.name in self.aggregates)
            and (self.aggregate_ids is None or event.aggregate.id in self.aggregate_ids)
            and (self.refs is None or event.aggregate in self.refs)
            and (low is None or event.version >= low)
            and (high is None or event.version <= high)
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time <= self.until)
            and (self.ids is None or event.id in self.ids)
        )


class NewCommit(msgspec.Struct, frozen=True):
    """What one append is to write; the fields are those of :meth:`EventStore.append`."""

    events: Sequence[Event[EventData]]
    commit_id: UUID | None = None
    digest: bytes | None = None
    guards: Mapping[AggregateRef, int] | None = None


class Commit(msgspec.Struct, frozen=True):
    """What one append wrote: the events at ``first`` to ``last``, one after the other.

    An append without events leaves ``first = last + 1``, ``last`` being the head it found.
    ``digest`` stands for the content; ``replayed`` tells that the store knew the commit already.
    """

    id: UUID
    first: int
    last: int
    digest: bytes
    replayed: bool = False

    @property
    def size(self) -> int:
        """How many events the commit holds."""
        return self.last - self.first + 1

    @property
    def positions(self) -> range:
        """Those of its events."""
        return range(self.first, self.last + 1)


class StoreInfo(msgspec.Struct, frozen=True):
    """What a store says of itself.

    ``identity`` is made with the store and stays with it: another one means another store.
    ``kinds`` are the (event name, schema version) pairs that were ever appended.
    """

    identity: UUID
    kinds: frozenset[tuple[str, int]]


class EventStore(Protocol):
    """One ordered log of events. All methods block and may be called by any thread.

    Positions run 1, 2, 3 … without a gap: once position *p* was read, no other event ever appears
    at or below *p*. All methods raise :class:`~shop.eventsourcing.errors.StoreUnavailableError`
    where the store cannot be reached, and :class:`~shop.eventsourcing.errors.StoreClosedError`
    after :meth:`close`.
    """

    def append(
        self,
        events: Sequence[Event[EventData]],
        *,
        commit_id: UUID | None = None,
        digest: bytes | None = None,
        guards: Mapping[AggregateRef, int] | None = None,
    ) -> Commit:
        """Store all the events or none, durably, over any number of aggregates.

        The events of each aggregate must continue its version one by one, and each aggregate in
        ``guards`` must be at the version given there; otherwise :class:`ConcurrencyError` is
        raised. A ``commit_id`` that the store knows returns its first commit, with ``replayed``
        set, and raises :class:`CommitReusedError` where the digest differs. The digest is made of
        the events, unless the caller has one that tells repeats better. An append without events
        only remembers its commit id.

        The id of an event that is stored already raises :class:`EventIdReusedError`, and data that
        could not be decoded again :class:`PayloadError`; an id, version or metadata of another type
        than declared raises ``TypeError``. Stores write :meth:`append_each` alone.
        """
        return sole(self.append_each([NewCommit(events, commit_id, digest, guards)]))

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        """Do several appends, one after the other; return for each its commit, or its error.

        As if each were a call of :meth:`append`, in much less time: what one raises keeps none of
        the others from being done.
        """
        ...

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        """The matching events by position, taken from the store page by page.

        Memory stays flat however much matches. Events appended meanwhile may be among them.
        Raises :class:`EventDecodeError` at an event that cannot be decoded.
        """
        ...

    def head(self) -> int:
        """The last position, 0 when the store is empty."""
        ...

    def now(self) -> datetime:
        """The time by the store's clock, the same for all who share the store."""
        ...

    def find_commit(self, commit_id: UUID) -> Commit | None:
        """The commit of that id, with ``replayed`` set; ``None`` where there is none."""
        ...

    def commits(self, after: int = 0) -> Iterator[Commit]:
        """The commits in order, taken from the store page by page, with ``replayed`` set.

        Those whose ``first`` is greater than ``after``: also empty ones that found the head there.
        Empty ones that found the same head come right after it, in any order.
        """
        ...

    def replicate(self, commits: Sequence[tuple[Commit, Sequence[Event[EventData]]]]) -> None:
        """Store commits of another store as they are there, with positions, ids and digests.

        One after the other, each whole or not at all, and durable when this returns. What is stored
        here already is passed over. Raises :class:`ReplicationError` where a commit cannot be what
        it is there, since this store has other events, and :class:`EventIdReusedError` where one of
        its events is in another commit here; of the commits before it, some may be stored.
        """
        ...

    def info(self) -> StoreInfo:
        """The store's identity and the kinds of events in it."""
        ...

    def close(self) -> None:
        """Let go of connections and files; idempotent. Appends under way have half a second."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def sole(outcomes: Sequence[Commit | Exception]) -> Commit:
    """The commit of a single append. Raises the error, where that is its outcome."""
    [outcome] = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
