"""Reading: every field of a query, and events as they were written."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shop.eventsourcing import AggregateRef, Event, EventStore, Metadata, Query
from tests.notebook import AnyEvent, Counted, Noted, counted, note, noted, positions, stream

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B, C = (AggregateRef(name, UUID(int=n)) for name, n in [("a.a", 1), ("b.b", 2), ("a.a", 3)])
TWIN = AggregateRef("b.b", A.id)


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


LOG: tuple[AnyEvent, ...] = (
    noted(A, 1, time=minute(1)),
    counted(A, 2, time=minute(2)),
    noted(B, 1, time=minute(3)),
    counted(C, 1, time=minute(4)),
    counted(B, 2, time=minute(5)),
    noted(A, 3, time=minute(6)),
    noted(TWIN, 1, time=minute(7)),
    noted(C, 2, time=minute(2)),  # the clock was set back
)
NOTED, COUNTED = "notebook.noted", "notebook.counted"
IDS = [event.id for event in LOG]


@pytest.fixture
def log(store: EventStore) -> EventStore:
    """A store that holds ``LOG``."""
    store.append(LOG[:3])
    store.append(LOG[3:])
    return store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Query(ids=[IDS[4], IDS[1]]), [2, 5]),
        (Query(ids=[uuid4()]), []),
        (Query(names=[COUNTED]), [2, 4, 5]),
        (Query(names=[COUNTED, NOTED]), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Query(names=["nobody.knows"]), []),
        (Query(aggregates=["b.b"]), [3, 5, 7]),
        (Query(aggregates=["a.a", "b.b"]), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Query(aggregates=["c.c"]), []),
        (Query(aggregate_ids=[A.id]), [1, 2, 6, 7]),
        (Query(aggregate_ids=[B.id, C.id]), [3, 4, 5, 8]),
        (Query(refs=[A]), [1, 2, 6]),
        (Query(refs=[TWIN, C]), [4, 7, 8]),
        (Query(refs=[A, A]), [1, 2, 6]),
        (Query(versions=(2, None)), [2, 5, 6, 8]),
        (Query(versions=(None, 1)), [1, 3, 4, 7]),
        (Query(versions=(2, 2)), [2, 5, 8]),
        (Query(versions=(3, 2)), []),
        (Query(versions=(0, 0)), []),
        (Query(since=minute(5)), [5, 6, 7]),
        (Query(until=minute(2)), [1, 2, 8]),
        (Query(since=minute(2), until=minute(3)), [2, 3, 8]),
        (Query(since=minute(9)), []),
        (Query(since=minute(5), until=minute(4)), []),
        (Query(after=6), [7, 8]),
        (Query(after=8), []),
        (Query(after=99), []),
        (Query(to=2), [1, 2]),
        (Query(to=0), []),
        (Query(after=2, to=4), [3, 4]),
        (Query(after=4, to=2), []),
        (Query(limit=3), [1, 2, 3]),
        (Query(limit=0), []),
        (Query(limit=99), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Query(reverse=True), [8, 7, 6, 5, 4, 3, 2, 1]),
        (Query(reverse=True, limit=2), [8, 7]),
        (Query(reverse=True, after=5, to=7), [7, 6]),
    ],
    ids=str,
)
def test_each_field_restricts(log: EventStore, query: Query, found: list[int]) -> None:
    assert positions(log.read(query)) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(names=[NOTED], aggregates=["b.b"]), [3, 7]),
        (Query(names=[NOTED], aggregate_ids=[A.id], versions=(1, 1)), [1, 7]),
        (Query(aggregates=["b.b"], aggregate_ids=[A.id]), [7]),
        (Query(refs=[A, TWIN], aggregates=["a.a"]), [1, 2, 6]),
        (Query(refs=[A], versions=(2, 3)), [2, 6]),
        (Query(refs=[A], versions=(2, None), reverse=True, limit=1), [6]),
        (Query(refs=[A, B], names=[COUNTED], reverse=True), [5, 2]),
        (Query(refs=[A], after=1, to=6, limit=1), [2]),
        (Query(ids=IDS[:4], names=[NOTED], after=1), [3]),
        (Query(ids=IDS[:4], refs=[B]), [3]),
        (Query(ids=IDS[:4], aggregate_ids=[A.id, B.id]), [1, 2, 3]),
        (Query(ids=IDS[2:], aggregate_ids=[A.id]), [6, 7]),
        (Query(names=[NOTED], since=minute(2), until=minute(6)), [3, 6, 8]),
        (Query(since=minute(2), after=2, limit=2, reverse=True), [8, 7]),
        (Query(until=minute(5), versions=(2, 2), to=7), [2, 5]),
        (Query(aggregates=["a.a"], names=[COUNTED], limit=1), [2]),
    ],
    ids=str,
)
def test_fields_combine_with_and(log: EventStore, query: Query, found: list[int]) -> None:
    assert positions(log.read(query)) == found


@pytest.mark.parametrize(
    "query",
    [
        Query(ids=[]),
        Query(names=()),
        Query(aggregates=frozenset()),
        Query(aggregate_ids=[]),
        Query(refs=[]),
        Query(refs=[A], names=[]),
    ],
    ids=str,
)
def test_an_empty_collection_matches_nothing(log: EventStore, query: Query) -> None:
    assert list(log.read(query)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"since": datetime(2026, 1, 1)},
        {"until": datetime(2026, 1, 1)},
        {"limit": -1},
        {"limit": 2**63},
        {"after": -1},
        {"after": 2**63},
        {"to": -1},
        {"to": 2**70},
        {"versions": (-1, None)},
        {"versions": (None, 2**63)},
    ],
    ids=str,
)
def test_a_query_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Query(**fields)  # type: ignore[arg-type]  # any field may be among them


def test_what_is_no_collection_of_names_is_refused() -> None:
    with pytest.raises(TypeError, match="names takes a collection, such as a list"):
        Query(names=iter(["notebook.noted"]))  # type: ignore[arg-type]  # could be read once only
    with pytest.raises(TypeError, match="names takes a collection, such as a list"):
        Query(names="notebook.noted")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"ids": [str(A.id)]}, "UUID"),
        ({"names": [Noted]}, "str"),
        ({"aggregates": [A]}, "str"),
        ({"aggregate_ids": [str(A.id)]}, "UUID"),
        ({"refs": [str(A)]}, "AggregateRef"),
    ],
    ids=lambda fields: str(*fields) if isinstance(fields, dict) else "",
)
def test_what_could_match_nothing_is_refused(fields: dict[str, Any], kind: str) -> None:
    """One store would find nothing, and each other one raise something else."""
    with pytest.raises(TypeError, match=f"{next(iter(fields))} must be of type {kind}, not "):
        Query(**fields)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    "query",
    [
        lambda ref: Query(),
        lambda ref: Query(refs=[ref]),
        lambda ref: Query(refs=[ref, note()]),
        lambda ref: Query(names=[NOTED]),
        lambda ref: Query(names=[NOTED, COUNTED]),
        lambda ref: Query(aggregates=[ref.name]),
        lambda ref: Query(aggregate_ids=[ref.id]),
        lambda ref: Query(since=datetime(2000, 1, 1, tzinfo=UTC)),
    ],
    ids=["all", "ref", "refs", "name", "names", "aggregate", "aggregate id", "time"],
)
def test_a_long_log_is_read_to_its_end(
    store: EventStore, query: Callable[[AggregateRef], Query], reverse: bool
) -> None:
    ref = note()
    store.append(stream(ref, 3500))
    limited = {"reverse": reverse, "limit": 3001}
    expected = list(range(1, 3501))[:: -1 if reverse else 1][:3001]
    asked = query(ref)
    fields = {name: getattr(asked, name) for name in asked.__struct_fields__}
    assert positions(store.read(Query(**{**fields, **limited}))) == expected


@pytest.mark.parametrize("count", [101, 1000, 20_000])
def test_a_query_may_name_very_many(store: EventStore, count: int) -> None:
    refs = [note() for _ in range(count)]
    events = [noted(ref, 1) for ref in refs[:200]]
    store.append(events)
    everything = list(range(1, len(events[:count]) + 1))
    ids = [event.id for event in events] + [uuid4() for _ in range(count)]
    assert positions(store.read(Query(ids=ids)))[: len(everything)] == everything
    assert positions(store.read(Query(refs=refs))) == everything
    assert positions(store.read(Query(aggregate_ids=[ref.id for ref in refs]))) == everything
    assert positions(store.read(Query(ids=ids[:90], refs=refs))) == everything[:90]
    names = [f"some.name_{number}" for number in range(count)]
    assert positions(store.read(Query(names=[*names, NOTED], limit=10))) == everything[:10]


def test_a_reader_sees_what_is_appended_while_it_reads_or_leaves_it_out_to_the_end(
    store: EventStore,
) -> None:
    """A page read later must not show newer events without those in between."""
    store.append(stream(note(), 2500))
    reading = store.read(Query(aggregates=["notebook.note"]))
    seen = [next(reading).position]
    other = note()
    store.append([counted(other, 1), noted(other, 2)])
    seen += positions(reading)
    assert seen == list(range(1, seen[-1] + 1))


def test_an_event_is_read_as_it_was_written(store: EventStore) -> None:
    metadata = Metadata(uuid4(), uuid4(), uuid4(), "Zoë")
    written = Event.new(note(), version=1, data=Counted(7), metadata=metadata)
    store.append([written])
    (read,) = store.read()
    assert read == written.at(1)
    assert isinstance(read.data, Counted)
    assert read.metadata == metadata
    assert read.time.tzinfo is not None


@pytest.mark.parametrize(
    "time",
    [
        datetime(2026, 3, 1, 12, 0, 0, 123456, UTC),
        datetime(2026, 3, 1, 12, 0, 0, 999999, timezone(timedelta(hours=-7, minutes=-30))),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(1, 1, 1, 0, 0, 0, 1, UTC),
        datetime(2262, 4, 12, 1, 2, 3, 654321, UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
    ],
    ids=str,
)
def test_times_keep_their_microseconds(store: EventStore, time: datetime) -> None:
    store.append([noted(note(), 1, time=time)])
    (read,) = store.read()
    assert read.time == time
    assert positions(store.read(Query(since=time, until=time))) == [1]
    before, after = Query(until=time - timedelta(microseconds=1)), None
    if time < datetime(9999, 1, 1, tzinfo=UTC):
        after = Query(since=time + timedelta(microseconds=1))
    assert list(store.read(before)) == []
    assert after is None or list(store.read(after)) == []


def test_times_of_any_zone_may_be_asked_for(log: EventStore) -> None:
    tokyo = timezone(timedelta(hours=9))
    query = Query(since=minute(5).astimezone(tokyo), until=minute(6).astimezone(tokyo))
    assert positions(log.read(query)) == [5, 6]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mouse 🐭, Größe 7 €",
        "a\x00b",
        "'; DROP TABLE events; --",
        '\\u0000 " \n \x7f',
        "ü" * 10**6,
    ],
    ids=["empty", "emoji", "NUL", "quotes", "escapes", "long"],
)
def test_any_text_comes_back_unchanged(store: EventStore, text: str) -> None:
    ref = note()
    store.append([Event.new(ref, version=1, data=Noted(text), metadata=Metadata(actor=text))])
    (read,) = store.read()
    assert read.data == Noted(text)
    assert read.metadata.actor == text


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_whole_numbers_of_64_bits_come_back_unchanged(store: EventStore, number: int) -> None:
    store.append([counted(note(), 1, number)])
    (read,) = store.read()
    assert read.data == Counted(number)


def test_reading_200_000_events_keeps_memory_flat(store: EventStore) -> None:
    for _ in range(20):
        store.append(stream(note(), 10_000))
    list(store.read(Query(limit=1000)))  # what stays, as connections do, is there now
    objects, memory = sys.getallocatedblocks(), resident_memory()
    for read in store.read():
        if read.position % 20_000 == 0:
            assert sys.getallocatedblocks() - objects < 50_000
            assert resident_memory() - memory < 32 * 1024**2
    assert read.position == 200_000


def resident_memory() -> int:
    """This process's, in bytes. It also counts what drivers hold outside of Python."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_bounds_beyond_all_positions_match_nothing_or_everything(store: EventStore) -> None:
    ref, greatest = note(), 2**63 - 1
    store.append(stream(ref, 3))
    for refs in (None, [ref]):
        for query, found in (
            (Query(refs=refs, after=3), []),
            (Query(refs=refs, after=greatest), []),
            (Query(refs=refs, to=greatest, limit=greatest), [1, 2, 3]),
            (Query(refs=refs, versions=(None, greatest)), [1, 2, 3]),
            (Query(refs=refs, versions=(greatest, None)), []),
            (Query(refs=refs, versions=(greatest, greatest), reverse=True), []),
        ):
            assert positions(store.read(query)) == found
