"""The event store on MongoDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast
from uuid import UUID

from shop.backends.mongodb.database import Database
from shop.backends.mongodb.documents import (
    Append,
    Document,
    StoredCommit,
    commit_of,
    event_of,
    stored_commits,
)
from shop.backends.mongodb.durability import Durability
from shop.backends.mongodb.log import COMMIT_FIELDS, Log, Work
from shop.backends.mongodb.query import FIRST_PAGE, PAGE, Plan, needs_kinds, next_size, plan
from shop.backends.mongodb.schema import BY_HEAD, BY_KIND, BY_POSITION, BY_VERSION
from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.events.ordinal import GREATEST
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.stores.append import (
    CLOSE_SECONDS,
    Kind,
    PreparedAppend,
    settle_each,
    until_certain,
)
from shop.eventsourcing.stores.group_commit import GroupCommit
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit, Query, StoreInfo, sole

_COMMITS = 1000
"""Commits that are told of at once."""


class MongoEventStore(EventStore):
    """Events in a database, which it closes with itself if it owns it."""

    def __init__(
        self, database: Database, registry: Registry[EventData], *, owns_database: bool = False
    ) -> None:
        self._database = database
        self._registry = registry
        self._owns_database = owns_database
        self._durability = Durability(database)
        self._log = Log(database, self._durability)
        self._group = GroupCommit(self._log.commit)
        database.before_close.callback(self._group.close, CLOSE_SECONDS)

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        """Do the appends, each with its own outcome: :class:`StoreError` for more than 16 MB.

        A connection that is lost in the middle is no error, as long as the server can be reached
        again within the database's time-out.
        """
        return settle_each(commits, self._prepared, self._append)

    def _append(self, works: Sequence[Work]) -> list[Commit | Exception]:
        return until_certain(self._group.submit_each, works, timeout=self._database.timeout)

    def _prepared(self, commit: NewCommit) -> Work:
        prepared = PreparedAppend.of(self._registry, commit)
        return Work([Append.of(prepared)])

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        """The matching events. Nothing is held on the server between two pages."""
        kinds: frozenset[Kind] = frozenset()
        if needs_kinds(query):
            # A kind that comes up after this look would be left out while its neighbours are
            # read. So nothing beyond the present head is read.
            query = query.up_to(self.head())
            kinds = self._kinds()
        names = {name for aggregate, name, _ in kinds if aggregate in (query.aggregates or ())}
        made = plan(query, sorted({aggregate for aggregate, _, _ in kinds}), sorted(names))
        if made is None:
            return
        bounds = self._bounds(query, made)
        if bounds is None:
            return
        for position, row in islice(self._rows(made, *bounds), made.limit):
            yield event_of(self._registry, position, row)

    def _bounds(self, query: Query, made: Plan) -> tuple[int, int] | None:
        """First positions of the commits between which all that is wanted lies.

        ``None`` where nothing can be wanted. In a single stream, versions lead to positions.
        """
        low, high = made.low, made.high
        if query.after:
            # It may lie within a commit.
            with self._database.using("commits") as commits:
                begun = commits.find_one(
                    {"_id": {"$gt": 0, "$lte": low}}, {"_id": 1}, sort={"_id": -1}, hint=BY_POSITION
                )
            low = int(begun["_id"]) if begun else low
        if query.refs is None or len(set(query.refs)) > 1 or query.ids is not None:
            return low, high
        first, last = query.versions
        if first is not None and first > 1:
            found = self._commit_with(next(iter(query.refs)), first)
            if found is None:
                return None
            low = max(low, found)
        if last:
            found = self._commit_with(next(iter(query.refs)), last)
            high = high if found is None else min(high, found)
        return low, high

    def _commit_with(self, ref: AggregateRef, version: int) -> int | None:
        """First position of the commit that holds a version of an aggregate."""
        place = {"aggregate_id": str(ref.id), "aggregate": ref.name, "version": version}
        with self._database.using("commits") as commits:
            found = commits.find_one({"events": {"$elemMatch": place}}, {"_id": 1}, hint=BY_VERSION)
        return int(found["_id"]) if found else None

    def _rows(self, made: Plan, low: int, high: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Positions and documents of the events that are wanted, regardless of the limit."""
        left = GREATEST if made.limit is None else made.limit
        # Without a gap between them, so many positions are at most so many commits and, but for
        # the last of them, so many events.
        by_position = not made.conditions and not made.reverse
        size = PAGE if by_position else FIRST_PAGE
        full = True
        while full and low <= high:
            most = min(size, left)  # each commit has something that is wanted, as a rule
            to = min(high, low + most - 1) if by_position else high
            page, cut = self._page(made, low, to, most)
            for commit in page:
                rows = commit.rows()
                position = commit.first
                for position, row in reversed(list(rows)) if made.reverse else rows:
                    if made.low <= position <= made.high:
                        if made.wanted(row):
                            left -= 1
                            yield position, row
                    elif position > made.high and not made.reverse:
                        return
                if made.reverse:
                    high = commit.first - 1
                else:
                    low = position + 1
            if by_position:
                full = bool(page)
            else:
                full = cut or len(page) == most
                size = next_size(len(page), sum(len(commit.events) for commit in page))

    def _page(self, made: Plan, low: int, high: int, size: int) -> tuple[list[StoredCommit], bool]:
        """The next commits, at most so many, all of them on disk; and whether there were more.

        There may be if they were too large for one answer of the server. A second one would depend
        on a cursor, which the server may have lost when a slow reader comes to ask for it.
        """
        with self._database.using("commits") as commits:
            answers = commits.find_raw_batches(
                made.find(low, high),
                {"commit": 1, "events": 1},
                sort=[("_id", -1 if made.reverse else 1)],
                limit=size,
                batch_size=size,
                hint=made.index,
            )
            with closing(answers):
                # The driver's types say what find() gives.
                page = list(stored_commits(cast("bytes", next(answers, b""))))
                cut = answers.alive
        if page:
            latest = page[0 if made.reverse else -1]
            self._durability.confirm(latest.first + latest.size - 1, latest.id)
        return page, cut

    def head(self) -> int:
        with self._database.using("commits") as commits:
            last = commits.find_one(
                {"_id": {"$gt": 0}}, {"last": 1, "commit": 1}, sort={"_id": -1}, hint=BY_POSITION
            )
        if last is None:
            return 0
        self._durability.confirm(int(last["last"]), last["commit"])
        return int(last["last"])

    def now(self) -> datetime:
        """The time by the server's clock."""
        database = self._database.open()
        with self._database.translated():
            time: datetime = database.command("hello")["localTime"]
        return time.replace(tzinfo=UTC)

    def find_commit(self, commit_id: UUID) -> Commit | None:
        with self._database.using("commits") as commits:
            found = commits.find_one({"commit": str(commit_id)}, COMMIT_FIELDS)
        if found is None:
            return None
        commit = commit_of(found)
        self._durability.confirm(commit.last, commit.id, always=not commit.size)
        return commit

    def commits(self, after: int = 0) -> Iterator[Commit]:
        """The commits in order. Those without events are read all of a page at once.

        A commit without events takes no position: one that another process is about to store may
        appear behind those that were told of already.
        """
        low = after
        while True:
            with self._database.using("commits") as collection:
                page = [
                    commit_of(document)
                    for document in collection.find(
                        {"_id": {"$gt": low}}, COMMIT_FIELDS, hint=BY_POSITION
                    )
                    .sort("_id", 1)
                    .limit(_COMMITS)
                ]
            if page:
                self._durability.confirm(page[-1].last, page[-1].id)
            until = page[-1].first - 1 if len(page) == _COMMITS else None
            empty = iter(self._empty_commits(low, until))
            waiting = next(empty, None)
            for commit in page:
                while waiting is not None and waiting.last < commit.last:
                    yield waiting
                    waiting = next(empty, None)
                yield commit
            while waiting is not None:
                yield waiting
                waiting = next(empty, None)
            if until is None:
                return
            low = page[-1].last

    def _empty_commits(self, low: int, until: int | None) -> list[Commit]:
        """Those without events that found a head between these, both included."""
        bounds = {"$gte": low} if until is None else {"$gte": low, "$lte": until}
        with self._database.using("commits") as commits:
            found = commits.find({"head": bounds}, COMMIT_FIELDS, hint=BY_HEAD).sort("head", 1)
            return [commit_of(document) for document in found]

    def replicate(self, commits: Sequence[tuple[Commit, Sequence[Event[EventData]]]]) -> None:
        appends = [
            Append.of(PreparedAppend.of_replica(self._registry, commit, events))
            for commit, events in commits
        ]
        work = Work(appends, [commit for commit, _ in commits])
        sole(self._append([work]))

    def info(self) -> StoreInfo:
        kinds = frozenset((name, schema) for _, name, schema in self._kinds())
        return StoreInfo(self._database.identity, kinds)

    def _kinds(self) -> frozenset[Kind]:
        """All kinds of events in the log: told by the commits that had one for the first time."""
        with self._database.using("commits") as commits:
            found = list(commits.find({"kinds.name": {"$gt": ""}}, {"kinds": 1}, hint=BY_KIND))
        # What is not on disk may be lost, and is then to be told again.
        on_disk = _kinds_of(commit for commit in found if commit["_id"] <= self._durability.reached)
        self._log.kinds = self._log.kinds.union(on_disk)
        return _kinds_of(found)

    def close(self) -> None:
        if self._owns_database:
            self._database.close()


def _kinds_of(commits: Iterable[Document]) -> frozenset[Kind]:
    """The kinds that commits had for the first time."""
    return frozenset(
        (kind["aggregate"], kind["name"], kind["schema"])
        for commit in commits
        for kind in commit["kinds"]
    )
