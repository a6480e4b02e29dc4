"""MongoDB: what is its own. What all stores do is in ``tests/conformance``."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from bson import Int64
from pymongo import MongoClient
from pymongo.errors import (
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)
from pymongo.monitoring import CommandListener, CommandStartedEvent

from shop.backends.mongodb import MongoEventStore, MongoModelStore
from shop.backends.mongodb.errors import translation
from shop.bootstrap import open_event_store
from shop.eventsourcing import (
    AggregateRef,
    Commit,
    Event,
    EventData,
    EventStore,
    Filter,
    PayloadError,
    Registry,
    Snapshot,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
    event,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel
from shop.stores import Backend, open_backend
from tests.backends.mongodb.raw import Raw, named
from tests.notebook import note, noted, registry, stream


class TestOpening:
    def test_nothing_is_asked_of_the_server_before_the_first_use(self, url: str, raw: Raw) -> None:
        backend = open_backend(url)
        assert named(url, "store") not in raw.list_collection_names()
        backend.events(registry()).head()
        assert named(url, "store") in raw.list_collection_names()
        backend.close()

    def test_stores_may_be_made_at_once(self, url: str) -> None:
        start = threading.Barrier(6)

        def create(_: int) -> object:
            with open_event_store(url, registry()) as store:
                start.wait()
                store.append([noted(note(), 1)])
                return store.info().identity

        with ThreadPoolExecutor(6) as pool:
            identities = set(pool.map(create, range(6)))
        assert len(identities) == 1
        with open_event_store(url, registry()) as store:
            assert store.head() == 6

    def test_a_store_of_a_newer_program_is_refused(self, url: str, raw: Raw) -> None:
        with open_event_store(url, registry()) as store:
            store.append([noted(note(), 1)])
        raw[named(url, "store")].update_one({}, {"$set": {"version": 99}})
        with (
            open_event_store(url, registry()) as store,
            pytest.raises(StoreFormatError, match="newer"),
        ):
            store.head()

    def test_what_was_left_half_made_is_finished(self, url: str, raw: Raw) -> None:
        identity = str(uuid4())
        raw[named(url, "store")].insert_one({"_id": "shop", "version": 0, "identity": identity})
        raw.create_collection(named(url, "commits"))
        with open_event_store(url, registry()) as store:
            store.append([noted(note(), 1)])
            assert str(store.info().identity) == identity
        assert "events.id" in str(raw[named(url, "commits")].index_information())

    @pytest.mark.parametrize("name", ["store", "commits", "checkpoints"])
    def test_a_collection_of_some_other_program_is_left_alone(
        self, url: str, raw: Raw, name: str
    ) -> None:
        raw[named(url, name)].insert_one({"_id": 1, "theirs": True})
        with (
            open_event_store(url, registry()) as store,
            pytest.raises(StoreFormatError, match=f"{name} of some other program"),
        ):
            store.head()
        assert raw.list_collection_names(filter={"name": {"$regex": f"^{named(url, '')}"}}) == [
            named(url, name)
        ]


@event("test.anything")
class Anything(EventData, frozen=True):
    value: Any


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class TestPayloads:
    @pytest.fixture
    def store(self, url: str) -> Iterator[EventStore]:
        with open_event_store(url, Registry([Anything])) as store:
            yield store

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [1, 2.0, "x", True, {"a": [{}]}],
            {"$set": 1, "a.b": 2, "": 3, "_id": 4},
            {"$ref": "a collection"},
            2**63 - 1,
            -(2**63),
            1.0,
            1e300,
            nested(60),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_json_values_come_back_as_they_were(self, store: EventStore, value: Any) -> None:
        store.append([Event.new(note(), version=1, data=Anything(value))])
        (read,) = store.read()
        assert isinstance(read.data, Anything)
        assert msgspec.json.encode(read.data.value) == msgspec.json.encode(value)
        assert type(read.data.value) is type(value)

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (2**63, "64 bits"),
            (-(2**63) - 1, "64 bits"),
            ({"a\0b": 1}, "NUL"),
            ({"$ref": "a", "$id": 1}, "meaning of its own"),
            (nested(300), "80 levels"),
        ],
        ids=["large", "small", "NUL in a key", "reference", "deep"],
    )
    def test_what_bson_does_not_hold_is_refused(
        self, store: EventStore, value: Any, reason: str
    ) -> None:
        good = Event.new(note(), version=1, data=Anything(1))
        bad = Event.new(note(), version=1, data=Anything(value))
        with pytest.raises(PayloadError, match=reason) as refused:
            store.append([good, bad])
        assert refused.value.name == "test.anything"
        assert store.append([good]).first == 1


def keep_commit(backend: Backend, text: str) -> None:
    store = backend.events(registry())
    head = store.head()
    store.append([noted(note(), 1, text[: len(text) // 2]), noted(note(), 1, text[::2])])
    assert len(list(store.read())) == store.head() == head + 2


def keep_snapshot(backend: Backend, text: str) -> None:
    snapshot = Snapshot(note(), 1, uuid4(), "", text.encode())
    backend.snapshots.save(snapshot)
    assert backend.snapshots.load(snapshot.aggregate) == snapshot


def keep_model(backend: Backend, text: str) -> None:
    letters = Collection("post_letter")
    backend.models.prepare([letters])
    letter = StoredModel(letters.name, "1", 1, 1, f'{{"text":"{text}"}}')
    before = backend.models.checkpoint("post")
    after = Checkpoint("post", 1, before.position + 1 if before else 1, "", uuid4())
    backend.models.commit(before, after, [letter])
    assert backend.models.find("post", letters, Filter()).value == [letter]


@pytest.mark.parametrize("keep", [keep_commit, keep_snapshot, keep_model])
def test_as_much_as_mongodb_holds_in_a_document_is_kept_and_more_refused(
    url: str, keep: Callable[[Backend, str], None]
) -> None:
    with closing(open_backend(url)) as backend:
        keep(backend, "x" * 1000)
        with pytest.raises(StoreError, match=r"takes 16,8.* bytes, and MongoDB holds 16 MB"):
            keep(backend, "x" * 16_800_000)
        keep(backend, "x" * 16_700_000)


def change(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Changes a commit's document, or its event where a name begins with ``event_``."""

    def apply(document: dict[str, Any]) -> dict[str, Any]:
        for name, value in fields.items():
            if name.startswith("event_"):
                document["events"][0][name.removeprefix("event_")] = value
            else:
                document[name] = value
        return document

    return apply


FRESH = {"commit": str(uuid4()), "event_id": str(uuid4())}


@pytest.mark.parametrize(
    "changed",
    [
        change(_id=Int64(3), last=Int64(3), event_version=3, event_id=FRESH["event_id"]),
        change(_id=Int64(3), last=Int64(3), event_version=3, commit=FRESH["commit"]),
        change(_id=Int64(3), last=Int64(3), **FRESH),
        change(event_version=3, **FRESH),
        change(_id=Int64(3), last=Int64(4), event_version=3, **FRESH),
        change(_id=Int64(0), last=Int64(0), event_version=3, **FRESH),
        change(_id=3, last=3, event_version=3, **FRESH),
        change(_id=Int64(3), last=Int64(3), event_version=0, **FRESH),
        change(_id=Int64(3), last=Int64(3), events=[], commit=FRESH["commit"]),
        change(_id=Int64(3), last=Int64(3), event_version=3, event_data="{}", **FRESH),
        change(_id=Int64(3), last=Int64(3), event_version=3, event_more=1, **FRESH),
        change(_id=Int64(3), last=Int64(3), event_version=3, more=1, **FRESH),
    ],
    ids=[
        *("a known commit", "a known event", "a known version", "a known position"),
        *("more positions than events", "no position", "no long", "no version", "no events"),
        *("no object", "more in an event", "more in a commit"),
    ],
)
def test_a_raw_insert_that_would_break_the_log_is_refused(
    url: str,
    store: EventStore,
    raw: Raw,
    changed: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    ref = note()
    store.append([noted(ref, 1)])
    store.append([noted(ref, 2)])
    commits = raw[named(url, "commits")]
    document = commits.find_one({"_id": 2})
    assert document is not None
    with pytest.raises(WriteError):
        commits.insert_one(changed(document))
    assert store.append([noted(ref, 3)]).first == 3
    assert [e.version for e in store.read()] == [1, 2, 3]


def test_the_same_insert_with_nothing_wrong_is_taken(url: str, store: EventStore, raw: Raw) -> None:
    """So the test above fails for the reasons that it names."""
    ref = note()
    store.append(stream(ref, 1))
    commits = raw[named(url, "commits")]
    document = commits.find_one({"_id": 1}, {"kinds": 0})
    assert document is not None
    commits.insert_one(change(_id=Int64(2), last=Int64(2), event_version=2, **FRESH)(document))
    assert store.append([noted(ref, 3)]).first == 3


def test_the_clock_is_the_servers(store: EventStore, raw: Raw) -> None:
    shown = raw.command("hello")["localTime"]
    assert 0 <= (store.now().replace(tzinfo=None) - shown).total_seconds() < 10


PARCELS = Collection("post_parcel", ("owner",))


class Interrupted(OrderedDict[AggregateRef, int]):
    """Ctrl-C comes when a version is to be remembered, once it is armed, and once."""

    armed = False

    def __setitem__(self, ref: AggregateRef, version: int) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt
        super().__setitem__(ref, version)


def test_an_interrupted_append_leaves_nothing_wrong_in_memory(store: EventStore) -> None:
    assert isinstance(store, MongoEventStore)
    ref = note()
    store.append(stream(ref, 1))
    store._log._versions = remembered = Interrupted(store._log._versions)
    remembered.armed = True
    with pytest.raises(KeyboardInterrupt):
        store.append(stream(ref, 1, after=1))
    assert store.append(stream(ref, 1, after=2)).first == 3


def parcel(id: str, owner: str | None, position: int) -> StoredModel:
    data = None if owner is None else f'{{"owner":"{owner}"}}'
    return StoredModel(PARCELS.name, id, 1, position, data)


class TestModels:
    """A commit of models is whole once the checkpoint has moved, whoever finishes it."""

    @pytest.mark.parametrize("finisher", ["get", "find", "checkpoint", "commit"])
    def test_what_a_dead_process_left_to_be_written_is_written_by_the_next(
        self, url: str, finisher: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backends = open_backend(url), open_backend(url)
        dying, next_one = (backend.models for backend in backends)
        for models in (dying, next_one):
            models.prepare([PARCELS])
        first, second = (Checkpoint("post", 1, n, "", uuid4()) for n in (1, 2))
        dying.commit(None, first, [parcel("1", "Ada", 1), parcel("2", "Bob", 1)])

        def die(*arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(dying, "_write", die)
        with pytest.raises(KeyboardInterrupt):
            dying.commit(first, second, [parcel("1", "Eve", 2), parcel("2", None, 2)])

        if finisher == "get":
            assert next_one.get("post", PARCELS.name, "1").value == parcel("1", "Eve", 2)
        elif finisher == "checkpoint":
            assert next_one.checkpoint("post") == second
        elif finisher == "commit":
            next_one.commit(second, Checkpoint("post", 1, 3, "", uuid4()))
        found = next_one.find("post", PARCELS, Filter())
        assert found.value == [parcel("1", "Eve", 2)]
        assert found.position == (3 if finisher == "commit" else 2)
        for backend in backends:
            backend.close()

    @pytest.mark.parametrize("writer", ["post", "post~shadow"])
    def test_a_late_writer_does_not_take_models_back(self, url: str, writer: str) -> None:
        """Not even one who finishes what was committed before a rebuild became the live models."""
        backend = open_backend(url)
        models = backend.models
        assert isinstance(models, MongoModelStore)
        models.prepare([PARCELS])
        checkpoints = [Checkpoint("post", 1, n, "", uuid4()) for n in (1, 2, 3)]
        models.commit(None, checkpoints[0], [parcel("1", "Ada", 1), parcel("2", "Bob", 1)])
        held = {
            "number": 1,
            "pending": [models._change(1, parcel(id, "Old", 1)) for id in ("1", "2")],
        }
        models.commit(checkpoints[0], checkpoints[1], [parcel("1", "Eve", 2)])
        models.commit(checkpoints[1], checkpoints[2], [parcel("2", None, 3)])
        models._write(writer, held)
        assert models.find("post", PARCELS, Filter()).value == [parcel("1", "Eve", 2)]
        backend.close()


class Writes(CommandListener):
    """The write concerns that servers were asked for, by command and collection."""

    def __init__(self) -> None:
        self.concerns: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in {"insert", "update", "delete", "findAndModify"}:
            key = event.command_name, event.command[event.command_name]
            self.concerns.setdefault(key, []).append(event.command.get("writeConcern", {}))

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """What is written by the stores that the test opens."""
    writes = Writes()
    client = partial(MongoClient, event_listeners=[writes])
    monkeypatch.setattr("shop.backends.mongodb.database.MongoClient", client)
    return writes


def test_all_writes_but_those_that_can_be_repeated_wait_for_the_disks_of_a_majority(
    url: str, writes: Writes
) -> None:
    backends = open_backend(url), open_backend(url)
    one, other = (backend.events(registry()) for backend in backends)
    commit = one.append([noted(note(), 1)])
    one.append([])
    assert other.head() == 1  # makes sure that the first one is on disk
    other.replicate([(Commit(uuid4(), 2, 2, b"copied"), [noted(note(), 1)])])
    backends[0].snapshots.save(Snapshot(note(), 1, uuid4(), "", b"state"))
    models = backends[0].models
    models.prepare([PARCELS])
    first, second = (Checkpoint("post", 1, n, "", commit.id) for n in (1, 2))
    models.commit(None, first, [parcel("1", "Ada", 1)])
    models.commit(first, second, [parcel("1", "Eve", 2)])
    models.discard([PARCELS.name], 1)
    for backend in backends:
        backend.close()
    on_disk = {"w": "majority", "j": True, "wtimeout": 5000}
    in_checkpoint = {"w": 1}
    assert writes.concerns == {
        ("insert", named(url, "store")): [on_disk],
        ("update", named(url, "store")): [on_disk],
        ("insert", named(url, "commits")): [on_disk] * 3,
        ("update", named(url, "commits")): [on_disk],
        ("update", named(url, "snapshots")): [on_disk],
        ("insert", named(url, "checkpoints")): [on_disk],
        ("findAndModify", named(url, "checkpoints")): [on_disk],
        ("update", named(url, "checkpoints")): [in_checkpoint] * 2,
        ("update", named(url, "model_post_parcel")): [in_checkpoint] * 2,
        ("delete", named(url, "model_post_parcel")): [on_disk],
    }


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (WriteConcernError("operation was interrupted", 11602, {}), "did not confirm"),
        (WTimeoutError("waiting for replication timed out", 64, {}), "did not confirm"),
        (
            ServerSelectionTimeoutError(
                "operation was interrupted, Timeout: 1.0s, Topology Description:"
                " <… error=NotPrimaryError('operation was interrupted', {'code': 11602})>"
            ),
            "no primary",
        ),
        (
            ServerSelectionTimeoutError(
                "Primary stepped down while waiting for replication, full error: {'code': 189,"
                " 'codeName': 'PrimarySteppedDown'}, Timeout: 1.0s, Topology Description: <…>"
            ),
            "no primary",
        ),
        (
            ServerSelectionTimeoutError(
                "operation was interrupted, full error: {'code': 11602, 'codeName':"
                " 'InterruptedDueToReplStateChange'}, Timeout: 1.0s, Topology Description: <…>"
            ),
            "no primary",
        ),
        (ServerSelectionTimeoutError("connection refused, Timeout: 1.0s"), "connection refused"),
    ],
)
def test_what_an_election_brings_about_is_worth_a_retry(error: PyMongoError, told: str) -> None:
    """A real election says each of these, at moments that no test can choose."""
    translated = translation(error, "the database", 1)
    assert isinstance(translated, StoreUnavailableError)
    assert told in str(translated)
