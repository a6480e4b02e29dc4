"""How queries and projections use a model store: readers and sessions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from shop.eventsourcing import Filter, ModelReader, ModelStore, ProjectionError, ReadModel
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, Reading, StoredModel
from shop.eventsourcing.models.session import ModelSession
from tests.eventsourcing.conftest import Stores


class Parcel(ReadModel, frozen=True):
    owner: str
    weight: int = 1

    indexes = ("owner", "weight")


class Colour(Enum):
    RED = "red"


class Pen(ReadModel, frozen=True):
    colour: Colour

    indexes = ("colour",)


PARCELS = Collection.of("post", Parcel)
EVENT_STORE = uuid4()


@pytest.fixture
def store(stores: Stores) -> ModelStore:
    """An empty model store with the collection of parcels."""
    stores.models.prepare([PARCELS])
    return stores.models


def checkpoint(position: int) -> Checkpoint:
    return Checkpoint("post", 1, position, "a shape", EVENT_STORE)


def stored(id: str, model: Parcel, *, created: int = 1, position: int = 0) -> StoredModel:
    data = msgspec.json.encode(model).decode()
    return StoredModel(PARCELS.name, id, created, position or created, data)


def fill(store: ModelStore, models: Sequence[StoredModel]) -> None:
    """Write models, at any position behind the one reached."""
    before = store.checkpoint("post")
    store.commit(before, checkpoint(before.position + 1 if before else 1), models)


def test_a_collection_is_named_after_projection_and_model() -> None:
    class TrackedParcel(ReadModel, frozen=True):
        indexes = ("owner",)

    assert Collection.of("post", TrackedParcel) == Collection("post_tracked_parcel", ("owner",))


def test_models_may_be_listed_by_a_field_of_theirs(stores: Stores) -> None:
    class Errand(ReadModel, frozen=True):
        due: int
        ordered_by = "due"

    stores.models.prepare([Collection.of("diary", Errand)])
    session = ModelSession(stores.models, "diary", 1, models=[Errand])
    for session.position, due in enumerate((30, 10, 20), 1):
        session.put(str(due), Errand(due))
    session.put("10", Errand(25))
    at = Checkpoint("diary", 1, 3, "a shape", EVENT_STORE)
    stores.models.commit(None, at, session.changes())

    listed = ModelReader(stores.models, "diary").find(Errand).value

    assert [keyed.key for keyed in listed] == [(20, "20"), (25, "10"), (30, "30")]


def test_the_field_that_orders_models_is_a_whole_number(memory_stores: Stores) -> None:
    class Errand(ReadModel, frozen=True):
        due: int | None
        ordered_by = "due"

    memory_stores.models.prepare([Collection.of("diary", Errand)])
    session = ModelSession(memory_stores.models, "diary", 1, models=[Errand])
    with pytest.raises(ProjectionError, match=r"Errand\.due is None: models are ordered by an int"):
        session.put("1", Errand(None))


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({"ids": frozenset({uuid4()})}, TypeError, "ids must be of type str"),
        ({"ids": "a3"}, TypeError, "ids takes a collection, such as a list, not 'a3'"),
        ({"limit": -1}, ValueError, "limit must be between 0"),
    ],
    ids=["ids of another type", "one id", "limit"],
)
def test_a_filter_that_would_find_nothing_by_mistake(
    arguments: dict[str, Any], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        Filter(**arguments)


class TestReader:
    """What queries use."""

    def test_it_decodes_models_and_gives_the_keys_that_continue_a_listing(
        self, store: ModelStore
    ) -> None:
        fill(store, [stored(str(n), Parcel("Ada", n), created=n) for n in (1, 2, 3)])
        reader = ModelReader(store, "post")

        page = reader.find(Parcel, Filter(limit=2))
        rest = reader.find(Parcel, Filter(limit=2, after=page.value[-1].key))

        assert [keyed.model.weight for keyed in page.value + rest.value] == [1, 2, 3]
        assert reader.get(Parcel, "2") == Reading(1, Parcel("Ada", 2))
        assert reader.get(Parcel, "4") == Reading(1, None)

    def test_it_reads_all_models_however_many(self, store: ModelStore) -> None:
        owners = ["Ada", "Bob"]
        fill(store, [stored(str(n), Parcel(owners[n % 2], n), created=n) for n in range(1, 1203)])
        reader = ModelReader(store, "post")

        assert [parcel.weight for parcel in reader.all(Parcel)] == list(range(1, 1203))
        assert [parcel.weight for parcel in reader.all(Parcel, owner="Bob")] == [*range(1, 1203, 2)]
        with pytest.raises(ValueError, match="no index on size"):
            next(reader.all(Parcel, size=1))

    def test_it_knows_the_position(self, store: ModelStore) -> None:
        reader = ModelReader(store, "post")
        assert reader.position() == 0

        store.commit(None, checkpoint(7))

        assert reader.position() == 7

    def test_a_filter_on_a_field_without_an_index_is_refused(self, store: ModelStore) -> None:
        with pytest.raises(ValueError, match="post_parcel has no index on colour, size"):
            ModelReader(store, "post").find(Parcel, Filter(equal={"size": 1, "colour": "red"}))

    def test_models_and_position_are_of_one_moment(self, store: ModelStore) -> None:
        """While a writer moves models and checkpoint together, no reader sees them apart."""
        store.commit(None, checkpoint(1), [stored("1", Parcel("Ada", 1))])
        stop: list[bool] = []

        def move() -> None:
            for n in range(2, 150):
                moved = stored("1", Parcel("Ada", n), position=n)
                store.commit(checkpoint(n - 1), checkpoint(n), [moved])
            stop.append(True)

        def watch() -> int:
            reader = ModelReader(store, "post")
            seen = 0
            while not stop:
                got, found = reader.get(Parcel, "1"), reader.find(Parcel)
                assert got.value is not None
                assert got.value.weight == got.position
                assert found.value[0].model.weight == found.position
                seen += 1
            return seen

        with ThreadPoolExecutor(3) as pool:
            watching = [pool.submit(watch) for _ in range(2)]
            pool.submit(move).result()
            assert all(watch.result() > 0 for watch in watching)


class TestSession:
    """What projections use."""

    @pytest.fixture
    def session(self, store: ModelStore) -> ModelSession:
        fill(store, [stored(str(n), Parcel("Ada", n), created=n, position=n) for n in (1, 2, 3)])
        session = ModelSession(store, "post", 1, models=[Parcel])
        session.position = 10
        return session

    def test_it_reads_what_is_stored(self, session: ModelSession) -> None:
        assert session.get(Parcel, "2") == Parcel("Ada", 2)
        assert session.get(Parcel, "4") is None
        assert session.changes() == []

    def test_it_reads_what_it_changed(self, session: ModelSession) -> None:
        session.put("2", Parcel("Eve"))
        session.delete(Parcel, "3")
        session.put("4", Parcel("Bob"))

        assert session.get(Parcel, "2") == Parcel("Eve")
        assert session.get(Parcel, "3") is None
        assert session.get(Parcel, "4") == Parcel("Bob")

    def test_a_change_keeps_the_place_of_the_model(self, session: ModelSession) -> None:
        session.put("2", Parcel("Eve"))
        session.put("4", Parcel("Bob"))

        assert session.changes() == [
            stored("2", Parcel("Eve"), created=2, position=10),
            stored("4", Parcel("Bob"), created=10),
        ]

    def test_a_model_made_anew_has_a_new_place(self, session: ModelSession) -> None:
        session.delete(Parcel, "2")
        session.position = 11
        session.put("2", Parcel("Eve"))

        assert session.changes() == [stored("2", Parcel("Eve"), created=11)]

    def test_an_event_that_is_in_the_model_already_is_passed_over(
        self, session: ModelSession
    ) -> None:
        session.position = 3
        session.put("3", Parcel("Eve"))
        session.delete(Parcel, "3")

        assert session.get(Parcel, "3") == Parcel("Ada", 3)
        assert session.changes() == []

    def test_it_finds_models_as_changed_so_far(self, session: ModelSession) -> None:
        session.put("1", Parcel("Eve", 1))
        session.delete(Parcel, "2")
        session.put("4", Parcel("Ada", 4))

        assert dict(session.find(Parcel, owner="Ada")) == {
            "3": Parcel("Ada", 3),
            "4": Parcel("Ada", 4),
        }
        assert dict(session.find(Parcel, owner="Eve")) == {"1": Parcel("Eve", 1)}

    def test_what_it_finds_may_be_changed_meanwhile(
        self, store: ModelStore, session: ModelSession
    ) -> None:
        fill(store, [stored(f"x{n}", Parcel("Bob", 0), created=n, position=1) for n in range(1200)])

        found = []
        for id, parcel in session.find(Parcel, owner="Bob"):
            found.append(id)
            session.put(id, Parcel(parcel.owner, parcel.weight + 1))
            session.put("x1199", Parcel("Eve"))

        assert len(found) == 1199
        assert "x1199" not in found
        assert len(session.changes()) == 1200
        assert session.get(Parcel, "x7") == Parcel("Bob", 1)
        assert session.get(Parcel, "x1199") == Parcel("Eve")

    @pytest.mark.parametrize("colour", ["red", Colour.RED])
    def test_it_finds_by_what_is_stored(self, store: ModelStore, colour: Any) -> None:
        """As readers do: by the JSON value of a field."""
        store.prepare([Collection.of("post", Pen)])
        session = ModelSession(store, "post", 1, models=[Pen])
        session.put("1", Pen(Colour.RED))
        store.commit(None, checkpoint(1), session.changes())

        assert dict(session.find(Pen, colour=colour)) == {"1": Pen(Colour.RED)}
        session = ModelSession(store, "post", 1, models=[Pen])
        assert dict(session.find(Pen, colour=colour)) == {"1": Pen(Colour.RED)}

    @pytest.mark.parametrize(
        ("model", "told"),
        [
            (Parcel(7), "Parcel: Expected `str`, got `int` - at `$.owner`"),  # type: ignore[arg-type]
            ({"owner": "Ada"}, "dict is not among the models of post"),
        ],
        ids=["field", "model"],
    )
    def test_a_model_that_could_not_be_read_is_not_put(
        self, session: ModelSession, model: Any, told: str
    ) -> None:
        with pytest.raises(ProjectionError, match=re.escape(told)):
            session.put("1", model)
        assert session.changes() == []

    def test_it_finds_by_indexed_fields_alone(self, session: ModelSession) -> None:
        with pytest.raises(ValueError, match="has no index on size"):
            list(session.find(Parcel, size=1))
