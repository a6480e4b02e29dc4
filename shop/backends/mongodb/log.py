"""Appending to the log: one document a commit, inserted at the next position.

The ``_id`` of a commit is its first position. A process inserts at the position after the last
commit that it saw. Either the insert succeeds, and then nothing was written in between, so that all
that the process has looked at still holds; or the ``_id`` is taken, and the process looks again. So
check and insert are one atomic step, over any number of aggregates and without a transaction.
Versions, commit ids and event ids that are taken are refused by unique indexes, versions that jump
by the look.

What this process has written itself need not be looked at: as long as its inserts succeed, nobody
else has changed anything. So most appends are one round trip, and a group of them is, too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum, auto
from uuid import UUID

import msgspec
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

from shop.backends.mongodb.database import Database
from shop.backends.mongodb.documents import Append, Document, commit_of
from shop.backends.mongodb.durability import Durability
from shop.backends.mongodb.errors import DUPLICATE_KEY, document_refused, nothing_begun, translation
from shop.backends.mongodb.schema import BY_POSITION
from shop.backends.mongodb.versions import (
    FIELDS,
    current_version,
    versions_of,
    which_are_there,
)
from shop.eventsourcing.errors import (
    CommitInDoubtError,
    EventIdReusedError,
    ReplicationError,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.events.event import AggregateRef
from shop.eventsourcing.stores.append import Kind, PreparedAppend, check_replicas, decide
from shop.eventsourcing.stores.group_commit import Entry
from shop.eventsourcing.stores.store import Commit

_REMEMBERED = 10_000
"""Aggregates whose version is remembered."""
_FOLLOWED = 1_000
"""Commits of others that are looked through for remembered aggregates; after more, all of those
are forgotten."""
_LOOK = 1.0
"""Seconds from one look at whether the last commit seen is still there to the next."""
_ONE_COMMAND = 16 * 1024 * 1024
"""Bytes of documents in one command: the driver takes no more, and a little for the rest of it."""
COMMIT_FIELDS = {"_id": 1, "last": 1, "head": 1, "commit": 1, "digest": 1}
"""What :func:`commit_of` needs."""
_FOLLOWED_FIELDS = {"last": 1, "commit": 1, **FIELDS}
"""What is read of the commits of others."""


class Work(msgspec.Struct, frozen=True):
    """What one caller wants written: an append, or copies of another store's commits."""

    appends: Sequence[Append]
    replicas: Sequence[Commit] | None = None
    """What the appends must become, where they are copies."""


class _Basis(Enum):
    """What appends are decided by."""

    REMEMBERED = auto()
    """What this process remembers."""
    CAUGHT_UP = auto()
    """The same, once what others have written meanwhile is read."""
    STORED = auto()
    """What is in the store."""


class Log:
    """Writes the commits of one process.

    ``commit`` is for one thread at a time; all else may be used by any thread.
    """

    def __init__(self, database: Database, durability: Durability) -> None:
        self._database = database
        self._durability = durability
        self._head: int | None = None
        """The last position seen; those of this process's own commits included."""
        self._seen: Document | None = None
        """Where and what the last commit with events is that was seen."""
        self._next_look = 0.0
        self._versions: OrderedDict[AggregateRef, int] = OrderedDict()
        """Of some aggregates, as they are at that position."""
        self.kinds: frozenset[Kind] = frozenset()
        """Kinds of events that are known to be in the log."""

    def commit(self, group: Sequence[Entry[Work]]) -> None:
        """Write what a group of callers wants, and set the outcome of each."""
        appends: list[Entry[Work]] = []
        unsettled = list(group)
        try:
            self._check_there()
            for entry in group:
                if entry.work.replicas is None:
                    appends.append(entry)
                    continue
                self._append(appends, unsettled)
                appends = []
                self._replicate(entry, entry.work.replicas)
                unsettled.remove(entry)
            self._append(appends, unsettled)
        except BaseException as error:  # Ctrl-C among them, in the middle of anything
            self._forget()
            if not isinstance(error, StoreError):
                raise
            for entry in unsettled:
                entry.outcome = error

    def _append(self, entries: Sequence[Entry[Work]], unsettled: list[Entry[Work]]) -> None:
        """Do appends one after the other, each with its own outcome."""
        left = list(entries)
        basis = _Basis.REMEMBERED
        while left:
            appends = [entry.work.appends[0] for entry in left]
            # Empty commits take no position, so that nothing tells whether another was faster.
            if any(not append.prepared.events for append in appends):
                basis = _Basis.STORED
            outcomes = self._decided(appends, basis)
            if basis is not _Basis.STORED and any(isinstance(o, Exception) for o in outcomes):
                basis = _Basis.STORED  # what is remembered may be old
                continue
            done, refusal = self._write(appends, outcomes)
            if refusal is not None and refusal.error is not None:
                outcomes[done] = refusal.error
                done += 1
            for entry, outcome in zip(left[:done], outcomes, strict=False):
                entry.outcome = outcome
                unsettled.remove(entry)
            left = left[done:]
            basis = refusal.basis if refusal is not None else _Basis.REMEMBERED

    def _replicate(self, entry: Entry[Work], replicas: Sequence[Commit]) -> None:
        appends, replicas = list(entry.work.appends), list(replicas)
        try:
            while appends:
                outcomes = self._decided(appends, _Basis.STORED)
                check_replicas(replicas, outcomes)
                done, refusal = self._write(appends, outcomes)
                if refusal is not None and refusal.error is not None:
                    entry.outcome = refusal.error
                    return
                appends, replicas = appends[done:], replicas[done:]
        except ReplicationError as error:
            entry.outcome = error

    def _decided(self, appends: Sequence[Append], basis: _Basis) -> list[Commit | Exception]:
        """The outcomes of appends."""
        prepared = [append.prepared for append in appends]
        stored = basis is _Basis.STORED
        with self._database.translated():
            if basis is not _Basis.REMEMBERED or self._head is None:
                self._catch_up()
            assert self._head is not None
            versions = self._versions_for(prepared, stored=stored)
            commits = self._known(prepared) if stored else {}
        return decide(prepared, self._head, versions, commits)

    def _write(
        self, appends: Sequence[Append], outcomes: Sequence[Commit | Exception]
    ) -> tuple[int, _Refusal | None]:
        """Insert what was accepted, as much of it as one command takes.

        Tells how many of the outcomes hold, and what was refused.
        """
        accepted = [
            (number, outcome)
            for number, outcome in enumerate(outcomes)
            if isinstance(outcome, Commit) and not outcome.replayed
        ]
        if not accepted:
            return len(outcomes), None
        documents: list[RawBSONDocument] = []
        size, kinds = 0, self.kinds
        for number, commit in accepted:
            document = appends[number].document(commit, kinds)
            kinds = kinds.union(appends[number].kinds)
            size += len(document.raw)
            if documents and size > _ONE_COMMAND:
                break
            documents.append(document)
        inserted, refusal = self._insert(documents)
        for number, commit in accepted[:inserted]:
            self._note(appends[number], commit)
        done = len(outcomes) if inserted == len(accepted) else accepted[inserted][0]
        return done, refusal

    def _insert(self, documents: Sequence[RawBSONDocument]) -> tuple[int, _Refusal | None]:
        """Insert documents in order until one is refused; tell how many were, and why no more.

        Raises :class:`CommitInDoubtError` where that cannot be known.
        """
        database, name = self._database.open(), f"{self._database.prefix}commits"
        try:
            # One command, whatever the number: the driver's own calls cost twice the time.
            answer = database.command(
                {
                    "insert": name,
                    "ordered": True,
                    "writeConcern": self._database.write_concern.document,
                    "documents": list(documents),
                }
            )
        except PyMongoError as error:
            told = translation(error, self._database.where, self._database.timeout)
            if isinstance(told, StoreUnavailableError) and not nothing_begun(error):
                raise CommitInDoubtError(str(told)) from error
            raise told from error
        if "writeConcernError" in answer:
            reason = answer["writeConcernError"].get("errmsg", "")
            raise CommitInDoubtError(
                f"{self._database.where} did not confirm within {self._database.timeout:g} s that"
                f" a commit is on disk ({reason})"
            )
        inserted = int(answer["n"])
        for failure in answer.get("writeErrors", ()):
            return inserted, _Refusal.of(failure, self._database.where)
        return inserted, None

    def _note(self, append: Append, commit: Commit) -> None:
        """Remember what an append has changed."""
        self._head = commit.last
        if commit.size:
            self._seen = {"_id": commit.first, "commit": str(commit.id)}
        for event in append.prepared.events:
            self._versions[event.aggregate] = event.version
            self._versions.move_to_end(event.aggregate)
        while len(self._versions) > _REMEMBERED:
            self._versions.popitem(last=False)
        self.kinds = self.kinds.union(append.kinds)
        self._durability.note(commit.last)

    def _check_there(self) -> None:
        """Begin anew, as a new process does, where the last commit seen is there no longer.

        The log is not the one that it was then: an older state was restored, the server runs on
        another directory, or it died before it had written what it showed. What is remembered would
        lead to a gap, and indexes may be missing.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        if self._seen is not None:
            with self._database.using("commits") as commits:
                there = commits.find_one(self._seen, {"_id": 1}, hint=BY_POSITION)
            if there is None:
                self._database.prepare()
                self._forget()
                self._seen, self.kinds = None, frozenset()
                self._durability.forget()
        self._next_look = now + _LOOK

    def _forget(self) -> None:
        self._head = None
        self._versions.clear()

    def _catch_up(self) -> None:
        """Bring what is remembered to the state of the log, and see to it that this is on disk.

        Otherwise a crash could take back the commit that the next insert comes right after.
        """
        self._read_on()
        if self._head and self._seen is not None:
            self._durability.confirm(self._head, self._seen["commit"])

    def _read_on(self) -> None:
        """Bring what is remembered to the state of the log, part of which may not be on disk."""
        commits = self._database.collection("commits")
        if self._head is not None:
            others = list(
                commits.find({"_id": {"$gt": self._head}}, _FOLLOWED_FIELDS, hint=BY_POSITION)
                .sort("_id", 1)
                .limit(_FOLLOWED)
            )
            if len(others) < _FOLLOWED:
                for commit in others:
                    self._see(commit)
                    for ref, version in versions_of(commit):
                        if ref in self._versions:
                            self._versions[ref] = version
                return
        self._forget()
        last = commits.find_one({"_id": {"$gt": 0}}, {"last": 1, "commit": 1}, sort={"_id": -1})
        self._head = 0
        if last is not None:
            self._see(last)

    def _see(self, commit: Document) -> None:
        """Remember that a commit that was read is the last one."""
        self._head = int(commit["last"])
        self._seen = {"_id": commit["_id"], "commit": commit["commit"]}

    def _versions_for(
        self, appends: Sequence[PreparedAppend], *, stored: bool
    ) -> dict[AggregateRef, int]:
        """The versions of the aggregates that the appends concern.

        An aggregate that is expected to be new is taken to be, unless what is ``stored`` is asked
        for: where it is not new, the index refuses its first version. Other aggregates that are not
        remembered are looked up: whether they stand where they are expected.
        """
        versions: dict[AggregateRef, int] = {}
        least: dict[AggregateRef, int] = {}
        for append in appends:
            for ref, version in append.expected.items():
                if ref in self._versions:
                    versions[ref] = self._versions[ref]
                elif stored or version or ref in append.guarded:
                    least[ref] = min(version, least.get(ref, version))
        if not least:
            return versions
        stored_commits = self._database.collection("commits")
        there = which_are_there(stored_commits, least)
        wrong = []
        for ref, version in least.items():
            if (version == 0 or (ref, version) in there) and (ref, version + 1) not in there:
                versions[ref] = self._versions[ref] = version
            else:
                wrong.append(ref)
        for append in appends:  # each is refused for the first that is wrong
            for ref in append.expected:
                if ref in wrong and ref not in versions:
                    versions[ref] = current_version(stored_commits, ref)
                    break
        return versions

    def _known(self, appends: Sequence[PreparedAppend]) -> dict[UUID, Commit]:
        """The commits of the appends' ids that are in the store, and on disk."""
        ids = [str(append.commit_id) for append in appends]
        found = self._database.collection("commits").find({"commit": {"$in": ids}}, COMMIT_FIELDS)
        known = {commit.id: commit for commit in map(commit_of, found)}
        for commit in known.values():
            self._durability.confirm(commit.last, commit.id, always=not commit.size)
        return known


class _Refusal(msgspec.Struct, frozen=True):
    """Why a document was not inserted: an ``error`` of its own, or its append is decided again.

    ``basis`` is what the next appends are decided by.
    """

    error: Exception | None
    basis: _Basis = _Basis.REMEMBERED

    @classmethod
    def of(cls, failure: Document, where: str) -> _Refusal:
        if failure["code"] != DUPLICATE_KEY:
            return cls(document_refused(str(failure.get("errmsg")), where))
        if "events.id" in failure["keyPattern"]:
            return cls(EventIdReusedError(UUID(failure["keyValue"]["events.id"])))
        # The _id of a commit without events is its commit id: then that is known. Otherwise it is
        # a position, and another process was faster.
        faster = isinstance(failure["keyValue"].get("_id"), int)
        return cls(None, _Basis.CAUGHT_UP if faster else _Basis.STORED)
