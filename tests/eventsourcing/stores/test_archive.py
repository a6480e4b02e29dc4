"""Histories as JSON lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop.backends.memory import MemoryEventStore
from shop.eventsourcing import (
    AggregateRef,
    ArchiveError,
    Event,
    EventData,
    EventStore,
    Metadata,
    Registry,
    event,
)
from shop.eventsourcing.stores.archive import Archive, export
from shop.eventsourcing.stores.replication import HistoryEntry, history, replicate, verify
from tests.notebook import AnyEvent, Counted, Noted, counted, note, noted, registry, stream

Line = dict[str, Any]


def exported(store: EventStore) -> bytes:
    file = io.BytesIO()
    export(store, store.head(), file)
    return file.getvalue()


def entries(data: bytes, known: Registry[EventData] | None = None) -> list[HistoryEntry]:
    return list(Archive(io.BytesIO(data), known or registry()))


def everything(store: EventStore) -> list[HistoryEntry]:
    return list(history(store, store.head()))


@pytest.fixture
def store() -> EventStore:
    """A store with commits of none, two and one events: lines 2 to 4 of its export."""
    store = MemoryEventStore(registry())
    one = note()
    store.append([])
    store.append([noted(one, 1), counted(note(), 1)], digest=b"\x00\xff made by the caller")
    store.append([noted(one, 2)])
    return store


data = st.builds(Noted, st.text()) | st.builds(Counted, st.integers(-(2**63), 2**63 - 1))
metadata = st.builds(
    Metadata,
    command_id=st.none() | st.uuids(),
    correlation_id=st.none() | st.uuids(),
    actor=st.none() | st.text(),
)
times = st.datetimes(timezones=st.just(UTC))
happenings = st.tuples(st.integers(0, 3), data, metadata, times)


@given(st.lists(st.tuples(st.lists(happenings, max_size=4), st.none() | st.binary())))
def test_any_history_is_the_same_after_its_export(
    commits: list[tuple[list[tuple[int, Noted | Counted, Metadata, datetime]], bytes | None]],
) -> None:
    source, target = MemoryEventStore(registry()), MemoryEventStore(registry())
    versions = [0] * 4
    for happened, digest in commits:
        events: list[AnyEvent] = []
        for which, what, why, when in happened:
            versions[which] += 1
            ref = AggregateRef("notebook.note", UUID(int=which))
            version = versions[which]
            events.append(Event.new(ref, version=version, data=what, metadata=why, time=when))
        source.append(events, digest=digest)
    file = exported(source)
    archive = Archive(io.BytesIO(file), registry())
    assert archive.header.store == source.info().identity
    assert archive.header.head == source.head()
    verify(replicate(archive, target), target)
    assert everything(target) == everything(source)
    assert exported(target).splitlines()[1:] == file.splitlines()[1:]


class TestTheFile:
    def test_it_says_what_it_is_and_where_it_ends(self, store: EventStore) -> None:
        first, *_, last = map(json.loads, exported(store).splitlines())
        identity = str(store.info().identity)
        assert first == {"kind": "history", "format": 1, "store": identity, "head": 3}
        assert last == {"kind": "end", "commits": 3, "events": 3}

    def test_a_line_is_a_commit_with_its_events(self, store: EventStore) -> None:
        line = json.loads(exported(store).splitlines()[2])
        commit, (written, _) = everything(store)[1]
        assert line.pop("events")[0] == {
            "position": 1,
            "id": str(written.id),
            "name": "notebook.noted",
            "schema": 1,
            "time": written.time.isoformat().replace("+00:00", "Z"),
            "aggregate": "notebook.note",
            "aggregate_id": str(written.aggregate.id),
            "version": 1,
            "data": {"text": "a note"},
            "metadata": {},
        }
        assert line == {
            "kind": "commit",
            "id": str(commit.id),
            "first": 1,
            "last": 2,
            "digest": "AP8gbWFkZSBieSB0aGUgY2FsbGVy",
        }

    def test_an_empty_store_has_a_file_too(self) -> None:
        store = MemoryEventStore(registry())
        assert entries(exported(store)) == []

    def test_it_may_be_of_another_program_that_writes_json_in_its_own_way(
        self, store: EventStore
    ) -> None:
        loaded = [json.loads(line) for line in exported(store).splitlines()]
        loaded[2]["events"][0]["time"] = "2026-05-01T14:00:00+02:00"
        rewritten = b"".join(
            json.dumps(dict(reversed(line.items())), indent=None).encode() + b"\r\n"
            for line in loaded
        )
        commits = entries(rewritten)
        assert [commit for commit, _ in commits] == [commit for commit, _ in everything(store)]
        assert commits[1][1][0].time == datetime(2026, 5, 1, 12, tzinfo=UTC)
        assert commits[1][1][0].time.tzinfo is UTC

    def test_events_of_an_older_schema_are_brought_up_to_date(self, store: EventStore) -> None:
        @event("notebook.noted", version=2, upcasters={1: lambda fields: {**fields, "stars": 3}})
        class NotedWithStars(EventData, frozen=True):
            text: str
            stars: int

        newer = Registry[EventData]([NotedWithStars, Counted])
        assert entries(exported(store), newer)[1][1][0].data == NotedWithStars("a note", 3)


def without(*names: str) -> Callable[[Line], None]:
    def change(line: Line) -> None:
        for name in names:
            del line[name]

    return change


def with_(**fields: object) -> Callable[[Line], None]:
    return lambda line: line.update(fields)


def first_event(change: Callable[[Line], None]) -> Callable[[Line], None]:
    return lambda line: change(line["events"][0])


BAD_LINES: Sequence[tuple[int, Callable[[Line], None], str]] = [
    (1, without("kind"), "this is no exported history: .*`kind`"),
    (1, with_(kind="commit"), "this is no exported history"),
    (1, lambda line: line.update(kind="end", commits=0, events=0), "but the end of one|unknown"),
    (1, with_(format=2), "its format is 2, this program knows 1 only"),
    (1, with_(format=2, store="a new kind of name"), "no exported history"),
    (1, with_(store="mine"), "Invalid UUID"),
    (2, with_(kind="history"), "Invalid value 'history'"),
    (2, with_(colour="red"), "unknown field `colour`"),
    (2, with_(first=2, last=1), "of positions 2 to 1, does not follow the line before"),
    (3, without("digest"), "missing required field `digest`"),
    (3, with_(digest="%%"), "Invalid base64"),
    (3, with_(id="1"), "Invalid UUID"),
    (3, with_(first=0), "`int` >= 1 - at `\\$.first`"),
    (3, with_(last=2**64), "`\\$.last`"),
    (3, with_(last=3), "it has 2 events, not one for each of its positions"),
    (3, with_(last=-1), "`\\$.last`"),
    (3, with_(events=[]), "it has 0 events"),
    (3, with_(first=2, last=3), "of positions 2 to 3, does not follow the line before"),
    (3, first_event(with_(version=0)), "this is no event: .*`\\$.version`"),
    (3, first_event(with_(version=2**63)), "this is no event: .*`\\$.version`"),
    (3, first_event(with_(position=2)), "says that its position is 2"),
    (3, first_event(with_(time="2026-05-01T12:00:00")), "timezone"),
    (3, first_event(with_(time="yesterday")), "Invalid RFC3339"),
    (
        3,
        first_event(with_(name="notebook.burnt")),
        r"notebook.burnt\) at position 1: no class is registered",
    ),
    (3, first_event(with_(schema=2)), "schema version 2 is newer than this program's, 1"),
    (3, first_event(with_(data={"text": 7})), "Expected `str`, got `int` at /text"),
    (3, first_event(with_(data={})), "missing required field `text`"),
    (3, first_event(with_(metadata=None)), "Expected `object`, got `null`"),
    (4, with_(first=2, last=2), "does not follow the line before"),
    (4, with_(first=4, last=4), "does not follow the line before"),
    (5, with_(commits=2), "there are 2 commits with 3 events before it, but there are 3 with 3"),
    (5, with_(events=4), "there are 3 commits with 4 events before it"),
]


class TestBadLines:
    @pytest.mark.parametrize(("number", "change", "reason"), BAD_LINES)
    def test_what_is_wrong_with_a_line_is_told_with_its_number(
        self, store: EventStore, number: int, change: Callable[[Line], None], reason: str
    ) -> None:
        lines = [json.loads(line) for line in exported(store).splitlines()]
        change(lines[number - 1])
        with pytest.raises(ArchiveError, match=f"^line {number}: .*{reason}") as caught:
            entries(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        assert caught.value.line == number

    @pytest.mark.parametrize("number", range(1, 6))
    @pytest.mark.parametrize(
        "text",
        [b"", b"{", b"[]", b"null", b"\xff", b"\0", b'"' + b"[" * 10_000, b"[" * 100_000],
        ids=["blank", "brace", "list", "null", "no UTF-8", "NUL", "open", "deep"],
    )
    def test_what_is_no_json_object_is_refused(
        self, store: EventStore, number: int, text: bytes
    ) -> None:
        lines = exported(store).splitlines(keepends=True)
        lines[number - 1] = text + b"\n"
        with pytest.raises(ArchiveError, match=f"^line {number}: "):
            entries(b"".join(lines))

    def test_text_that_is_no_utf_8_is_refused(self, store: EventStore) -> None:
        for text in (b"a note", b"notebook.noted", b"notebook.note"):
            damaged = exported(store).replace(text, text[:-1] + b"\xff", 1)
            with pytest.raises(ArchiveError, match=r"^line 3: "):
                entries(damaged)

    def test_a_file_that_was_cut_off_anywhere_is_noticed(self, store: EventStore) -> None:
        whole = exported(store)
        for length in range(len(whole)):
            with pytest.raises(ArchiveError, match="the file was cut off here"):
                entries(whole[:length])

    def test_lines_that_are_missing_or_twice_or_change_places_are_noticed(
        self, store: EventStore
    ) -> None:
        lines = exported(store).splitlines(keepends=True)
        for number in range(5):
            missing = lines[:number] + lines[number + 1 :]
            twice = lines[: number + 1] + lines[number:]
            for some in (missing, twice):
                with pytest.raises(ArchiveError):
                    entries(b"".join(some))
        for one, two in ((1, 2), (2, 3), (3, 4)):
            lines[one], lines[two] = lines[two], lines[one]
            with pytest.raises(ArchiveError):
                entries(b"".join(lines))
            lines[one], lines[two] = lines[two], lines[one]
        assert entries(b"".join(lines)) == everything(store)

    def test_something_after_the_end_is_noticed(self, store: EventStore) -> None:
        with pytest.raises(ArchiveError, match=r"^line 6: there is something after the end"):
            entries(exported(store) + b"\n")

    def test_what_comes_before_a_bad_line_is_given_out(self, store: EventStore) -> None:
        lines = exported(store).splitlines(keepends=True)
        archive = Archive(io.BytesIO(b"".join(lines[:3])), registry())
        given_out: list[HistoryEntry] = []
        with pytest.raises(ArchiveError):
            given_out.extend(iter(archive))
        assert archive.line == 4
        target = MemoryEventStore(registry())
        with pytest.raises(ArchiveError):
            replicate(Archive(io.BytesIO(b"".join(lines[:3])), registry()), target)
        assert replicate(Archive(io.BytesIO(b"".join(lines)), registry()), target).commits == 3


def test_a_large_commit_stays_one_line() -> None:
    store = MemoryEventStore(registry())
    store.append(stream(note(), 5000))
    file = exported(store)
    assert len(file.splitlines()) == 3
    assert entries(file) == everything(store)
