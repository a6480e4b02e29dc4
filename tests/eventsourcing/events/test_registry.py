"""Registries, wire formats and upcasters; the envelope of events and their ids."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from shop.eventsourcing import (
    AggregateRef,
    Event,
    EventData,
    Metadata,
    PayloadError,
    Registry,
    command,
    event,
    new_id,
)
from tests.notebook import Counted, Noted, note, registry


@event("notebook.listed")
class Listed(EventData, frozen=True):
    items: list[Noted]
    by: UUID | None = None


def without_title(old: dict[str, Any]) -> dict[str, Any]:
    old["text"] = f"{old.pop('title')}: {old['text']}"
    return old


@event(
    "notebook.noted",
    version=3,
    upcasters={1: without_title, 2: lambda old: old | {"language": "en"}},
)
class NotedNow(EventData, frozen=True):
    text: str
    language: str


def test_a_payload_comes_back_as_it_was_encoded() -> None:
    known = Registry[EventData]([Listed])
    listed = Listed([Noted("one"), Noted("🐭")], uuid4())
    assert known.decode("notebook.listed", 1, known.encode(listed)) == listed


def test_a_registry_knows_its_classes() -> None:
    known = registry()
    assert list(known) == [Noted, Counted]
    assert "notebook.noted" in known
    assert "notebook.nothing" not in known
    assert known["notebook.noted"] is Noted


@pytest.mark.parametrize(
    ("mark", "base"), [(event("a.b"), "EventData"), (command("a.b"), "CommandPayload")]
)
def test_what_is_no_payload_is_given_no_name(mark: Callable[[type], type], base: str) -> None:
    class Plain:
        """As one forgets the base."""

    with pytest.raises(TypeError, match=rf"Plain is no {base}: class Plain\({base}, frozen=True\)"):
        mark(Plain)


def test_an_unknown_name_is_refused() -> None:
    known = registry()
    with pytest.raises(PayloadError, match="no class is registered") as refused:
        known.decode("notebook.nothing", 1, b"{}")
    assert refused.value.name == "notebook.nothing"
    with pytest.raises(PayloadError):
        known["notebook.nothing"]


def test_a_name_belongs_to_one_class() -> None:
    known = registry()
    known.add(Noted)  # again: no harm
    with pytest.raises(ValueError, match="registered for Noted already"):
        known.add(NotedNow)


def test_a_class_without_a_wire_name_is_refused() -> None:
    class Bare(EventData, frozen=True):
        pass

    with pytest.raises(ValueError, match="Bare has no wire name"):
        registry().add(Bare)


@pytest.mark.parametrize("name", ["", "noted", "Note.noted", "note.", "note..x", "no te.x", "1.x"])
def test_a_wire_name_is_lower_case_words_joined_by_dots(name: str) -> None:
    with pytest.raises(ValueError, match="no wire name"):
        event(name)(Noted)


@pytest.mark.parametrize("mark", [event, command])
def test_a_mark_without_a_name_is_refused(mark: Any) -> None:
    """It would make a function of the class, and fail wherever that is used."""
    with pytest.raises(ValueError, match="is no wire name"):

        @mark
        class Unmarked(EventData, frozen=True):
            pass


@pytest.mark.parametrize("version", [0, -1, "2", 1.0, True])
def test_a_schema_version_is_a_number_from_1(version: Any) -> None:
    with pytest.raises(ValueError, match=r"the version of notebook\.noted is a number from 1 on"):
        event("notebook.noted", version=version)


@pytest.mark.parametrize("outside", [0, 2, 3, "1"])
def test_an_upcaster_must_start_from_an_older_version(outside: Any) -> None:
    with pytest.raises(ValueError, match="no use for upcasters"):
        event("notebook.x", version=2, upcasters={outside: lambda old: old})(Noted)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b'{"items": 7}', "/items"),
        (b'{"items": [{"text": "a"}, {"text": 7}]}', "/items/1/text"),
        (b'{"items": [], "by": "nobody"}', "/by"),
        (b"{}", ""),
        (b"[]", ""),
        (b'{"items": [', ""),
        (b"\xff", ""),
    ],
)
def test_bad_data_is_refused_with_a_pointer_to_it(data: bytes, path: str) -> None:
    with pytest.raises(PayloadError) as refused:
        Registry[EventData]([Listed]).decode("notebook.listed", 1, data)
    assert refused.value.path == path
    assert refused.value.name == "notebook.listed"


def test_older_versions_are_brought_up_step_by_step() -> None:
    known = Registry[EventData]([NotedNow])
    oldest = known.decode("notebook.noted", 1, b'{"title": "A", "text": "b"}')
    older = known.decode("notebook.noted", 2, b'{"text": "b"}')
    current = known.decode("notebook.noted", 3, b'{"text": "b", "language": "fr"}')
    assert (oldest, older) == (NotedNow("A: b", "en"), NotedNow("b", "en"))
    assert current == NotedNow("b", "fr")


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (2, "schema version 2 is newer"),
        (10**18, f"schema version {10**18} is newer"),
        (0, "schema versions begin at 1, not 0"),
        (-(10**6), "schema versions begin at 1, not -1000000"),
    ],
)
def test_a_version_that_does_not_exist_is_refused(version: int, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        registry().decode("notebook.noted", version, b'{"text": "b"}')
    assert registry().unreadable([("notebook.noted", version)])


def test_a_version_without_an_upcaster_is_refused() -> None:
    @event("notebook.gapped", version=3, upcasters={1: lambda old: old})
    class Gapped(EventData, frozen=True):
        pass

    with pytest.raises(PayloadError, match="no upcaster from schema version 2 to 3"):
        Registry[EventData]([Gapped]).decode("notebook.gapped", 1, b"{}")


@pytest.mark.parametrize(
    "broken",
    [
        lambda old: {"text": old["none"]},
        lambda old: {"text": old["text"].no_such_method()},
        lambda old: {"text": old["text"][99]},
        lambda old: {"text": old["text"] + 1},
        lambda old: {"text": int(old["text"])},
        lambda old: {"text": 1 / 0},
    ],
    ids=["key", "attribute", "index", "type", "value", "arithmetic"],
)
def test_an_upcaster_that_fails_is_told_of(broken: Any) -> None:
    @event("notebook.broken", version=2, upcasters={1: broken})
    class Broken(EventData, frozen=True):
        text: str

    with pytest.raises(PayloadError, match="upcasting from schema version 1 failed"):
        Registry[EventData]([Broken]).decode("notebook.broken", 1, b'{"text": "b"}')


def test_what_an_upcaster_makes_must_fit_the_class() -> None:
    @event("notebook.misfit", version=2, upcasters={1: lambda old: {"text": 7}})
    class Misfit(EventData, frozen=True):
        text: str

    with pytest.raises(PayloadError) as refused:
        Registry[EventData]([Misfit]).decode("notebook.misfit", 1, b"{}")
    assert refused.value.path == "/text"


def test_native_values_are_converted_as_well() -> None:
    by = uuid4()
    known = Registry[EventData]([Listed])
    assert known.convert("notebook.listed", 1, {"items": [], "by": by}) == Listed([], by)
    assert known.convert("notebook.listed", 1, {"items": [], "by": str(by)}) == Listed([], by)


def test_numbers_that_are_keys_are_read_from_an_older_version_as_well() -> None:
    @event("notebook.paged", version=2, upcasters={1: lambda old: {"pages": old["sheets"]}})
    class Paged(EventData, frozen=True):
        pages: dict[int, str]

    known = Registry[EventData]([Paged])
    assert known.decode("notebook.paged", 1, b'{"sheets": {"7": "x"}}') == Paged({7: "x"})


def test_what_cannot_be_decoded_is_listed_with_the_reason() -> None:
    kinds = {("notebook.noted", 1), ("notebook.noted", 9), ("notebook.nothing", 1)}
    newer, unknown = registry().unreadable(kinds)
    assert newer.startswith("notebook.noted version 9: schema version 9 is newer")
    assert unknown == "notebook.nothing version 1: no class is registered under this name"
    assert registry().unreadable([("notebook.noted", 1)]) == []


@pytest.mark.parametrize(
    "payload",
    [
        Noted(7),  # type: ignore[arg-type]  # what a checker would not see
        Listed([Noted(7)]),  # type: ignore[arg-type]  # as above
        Counted(float("nan")),  # type: ignore[arg-type]  # as above
        Noted("\udc00"),
        Listed([], object()),  # type: ignore[arg-type]  # as above
    ],
)
def test_nothing_is_encoded_that_would_not_decode(payload: EventData) -> None:
    with pytest.raises(PayloadError):
        Registry[EventData]([Noted, Counted, Listed]).encode(payload)


def test_a_class_that_is_not_registered_is_not_encoded() -> None:
    with pytest.raises(PayloadError):
        registry().encode(Listed([]))
    with pytest.raises(PayloadError, match="is not its class here"):
        registry().encode(NotedNow("a", "en"))


def test_a_new_event_is_of_now_and_not_yet_stored() -> None:
    ref, before = note(), datetime.now(UTC)
    made = Event.new(ref, version=4, data=Noted("x"))
    assert before <= made.time <= datetime.now(UTC)
    assert (made.name, made.aggregate, made.version) == ("notebook.noted", ref, 4)
    assert (made.position, made.metadata) == (0, Metadata())
    assert made.at(9).position == 9
    assert made.position == 0


def test_times_are_kept_in_utc() -> None:
    time = datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    made = Event.new(note(), version=1, data=Noted("x"), time=time)
    assert made.time == time
    assert made.time.utcoffset() == timedelta(0)


def test_an_event_needs_a_version_and_a_time_zone() -> None:
    with pytest.raises(ValueError, match="versions begin at 1"):
        Event.new(note(), version=0, data=Noted("x"))
    with pytest.raises(ValueError, match="time zone"):
        Event.new(note(), version=1, data=Noted("x"), time=datetime(2026, 1, 1))


def test_events_are_immutable() -> None:
    made = Event.new(note(), version=1, data=Noted("x"))
    with pytest.raises(AttributeError):
        made.version = 2  # type: ignore[misc]  # that is the point
    with pytest.raises(AttributeError):
        made.data.text = "y"  # type: ignore[misc]  # as above


def test_a_reference_reads_as_name_and_id() -> None:
    id = uuid4()
    assert str(AggregateRef("notebook.note", id)) == f"notebook.note/{id}"


def test_new_ids_are_of_version_7_and_run_with_time() -> None:
    before = clock.time_ns() // 1_000_000
    ids = [new_id() for _ in range(10_000)]
    after = clock.time_ns() // 1_000_000
    assert len(set(ids)) == len(ids)
    assert {(id.version, id.variant) for id in ids} == {(7, "specified in RFC 4122")}
    stamps = [id.int >> 80 for id in ids]
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= after
