"""A history as text: JSON, a line a commit. See :mod:`shop.eventsourcing.stores.replication`.

The first line says what this is, the last one how much it was: a file that was cut off is noticed.
In between, each line is a whole commit with its events::

    {"kind":"history","format":1,"store":"01a2…","head":2}
    {"kind":"commit","id":"01a2…","first":1,"last":2,"digest":"…","events":[
        {"position":1,"id":"01a2…","name":"shop.product.created","schema":1,
         "time":"2026-05-01T12:00:00.000001Z","aggregate":"shop.product","aggregate_id":"0c9f…",
         "version":1,"data":{"name":"Mouse","stock":5},"metadata":{"command_id":"01a2…"}}, …]}
    {"kind":"end","commits":1,"events":2}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import ArchiveError, EventSourcingError
from shop.eventsourcing.events.envelope import decode_event, encode_event
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.ordinal import Count, Ordinal
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.stores.replication import BATCH, HistoryEntry, Listener, follows, history
from shop.eventsourcing.stores.store import Commit, EventStore

FORMAT = 1
"""The version of the format: another one is refused."""


class Header(msgspec.Struct, frozen=True, tag="history", tag_field="kind"):
    """The first line: from which store the history is, and its last position."""

    format: int
    store: UUID
    head: Count = 0


class _CommitLine(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="commit", tag_field="kind"
):
    id: UUID
    first: Ordinal
    last: Count
    digest: bytes
    events: list[msgspec.Raw]
    """Each as :func:`encode_event` writes it."""


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="end", tag_field="kind"):
    commits: Count
    events: Count


# msgspec insists on the tag in a union only.
_decode_header = msgspec.json.Decoder(Header | _End).decode
_decode_line = msgspec.json.Decoder(_CommitLine | _End).decode
_encode = msgspec.json.Encoder().encode


def export(
    store: EventStore,
    head: int,
    file: BinaryIO,
    on_progress: Listener = lambda position: None,
) -> None:
    """Write the history of a store up to a head that it has, or had.

    The caller opens, flushes and closes the file.
    """

    def write(line: Header | _CommitLine | _End) -> None:
        file.write(_encode(line) + b"\n")

    write(Header(FORMAT, store.info().identity, head))
    commits = 0
    for commits, (commit, events) in enumerate(history(store, head), 1):
        json = [msgspec.Raw(encode_event(event)) for event in events]
        write(_CommitLine(commit.id, commit.first, commit.last, commit.digest, json))
        if commits % BATCH == 0:
            on_progress(commit.last)
    write(_End(commits, head))
    on_progress(head)


class Archive:
    """An exported history, to be iterated over once. Memory stays flat; for one thread.

    Each line is checked when it is read: it raises :class:`ArchiveError` where it is no commit, has
    events that this program does not know or cannot decode, or does not follow the one before; and
    where the end is missing. The commits before that have been given out by then.
    """

    def __init__(self, file: Iterable[bytes], registry: Registry[EventData]) -> None:
        """Read the header. The caller closes the file."""
        self._lines = enumerate(file, 1)
        self._registry = registry
        self.line = 0
        """The number of the line that was read last."""
        self.header = self._read_header()

    def __iter__(self) -> Iterator[HistoryEntry]:
        before: Commit | None = None
        commits = 0
        while True:
            line = self._decoded(self._next())
            if isinstance(line, _End):
                self._check_end(line, commits, before.last if before else 0)
                return
            commit = Commit(line.id, line.first, line.last, line.digest, replayed=True)
            if not follows(commit, before):
                raise ArchiveError(
                    self.line,
                    f"commit {line.id}, of positions {line.first} to {line.last}, does not follow"
                    " the line before",
                )
            yield commit, self._events(commit, line.events)
            before = commit
            commits += 1

    def _read_header(self) -> Header:
        line = self._next()
        try:
            header: Header | _End = _decode_header(line)
        except (ValueError, RecursionError) as error:
            raise ArchiveError(1, f"this is no exported history: {error}") from error
        if isinstance(header, _End):
            raise ArchiveError(1, "this is no exported history, but the end of one")
        if header.format != FORMAT:
            raise ArchiveError(
                1, f"its format is {header.format}, this program knows {FORMAT} only"
            )
        return header

    def _next(self) -> bytes:
        self.line, line = next(self._lines, (self.line + 1, b""))
        if not line.endswith(b"\n"):
            raise ArchiveError(self.line, "the file was cut off here: its end is missing")
        return line

    def _decoded(self, line: bytes) -> _CommitLine | _End:
        try:
            decoded: _CommitLine | _End = _decode_line(line)
        except (ValueError, RecursionError) as error:
            raise ArchiveError(self.line, str(error)) from error
        return decoded

    def _events(self, commit: Commit, events: Sequence[msgspec.Raw]) -> list[Event[EventData]]:
        if len(events) != commit.size:
            raise ArchiveError(
                self.line, f"it has {len(events)} events, not one for each of its positions"
            )
        return [
            self._event(event, position)
            for event, position in zip(events, commit.positions, strict=True)
        ]

    def _event(self, json: msgspec.Raw, position: int) -> Event[EventData]:
        try:
            event = decode_event(self._registry, bytes(json))
        except EventSourcingError as error:
            raise ArchiveError(self.line, str(error)) from error
        if event.position != position:
            raise ArchiveError(
                self.line, f"event {event.id} says that its position is {event.position}"
            )
        return event

    def _check_end(self, end: _End, commits: int, events: int) -> None:
        if (end.commits, end.events) != (commits, events):
            raise ArchiveError(
                self.line,
                f"by this there are {end.commits} commits with {end.events} events before it, but"
                f" there are {commits} with {events}",
            )
        if next(self._lines, None) is not None:
            raise ArchiveError(self.line + 1, "there is something after the end")
