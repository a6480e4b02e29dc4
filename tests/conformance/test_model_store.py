"""What every model store does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.eventsourcing import (
    CheckpointMovedError,
    Filter,
    ModelReader,
    ModelStore,
    ProjectionError,
    ReadModel,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, Reading, StoredModel
from tests.stores import NewStorage, Storage


class Parcel(ReadModel, frozen=True):
    owner: str
    weight: int = 1
    fragile: bool = False
    route: UUID = UUID(int=0)
    note: str | None = None

    indexes = ("owner", "weight", "fragile", "route", "note")


PARCELS = Collection.of("post", Parcel)
LETTERS = Collection("post_letter")
LETTER = StoredModel(LETTERS.name, "1", 1, 1, "{}")
EVENT_STORE = uuid4()


@pytest.fixture
def store(new_storage: NewStorage) -> ModelStore:
    """An empty model store with the collection of parcels, of each kind in turn."""
    models = new_storage().backend().models
    models.prepare([PARCELS])
    return models


def checkpoint(position: int, *, generation: int = 1, projection: str = "post") -> Checkpoint:
    return Checkpoint(projection, generation, position, "a shape", EVENT_STORE)


def stored(id: str, model: Parcel | None, *, created: int = 1, position: int = 0) -> StoredModel:
    data = None if model is None else msgspec.json.encode(model).decode()
    return StoredModel(PARCELS.name, id, created, position or created, data)


def fill(store: ModelStore, models: Sequence[StoredModel], *, generation: int = 1) -> None:
    """Write models, at any position behind the one reached."""
    before = store.checkpoint("post")
    position = before.position + 1 if before else 1
    store.commit(before, checkpoint(position, generation=generation), models)


def ids(found: Reading[list[StoredModel]]) -> list[str]:
    return [model.id for model in found.value]


def find(store: ModelStore, **wanted: Any) -> list[str]:
    """Ids of the parcels that match a filter."""
    return ids(store.find("post", PARCELS, Filter(**wanted)))


class TestCheckpoint:
    def test_there_is_none_at_first(self, store: ModelStore) -> None:
        assert store.checkpoint("post") is None

    def test_it_is_kept_as_committed(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(0))
        store.commit(checkpoint(0), checkpoint(2**40))

        assert store.checkpoint("post") == checkpoint(2**40)

    def test_each_projection_has_its_own(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(1))
        store.commit(None, checkpoint(2, projection="post~shadow"))

        assert store.checkpoint("post") == checkpoint(1)
        assert store.checkpoint("post~shadow") == checkpoint(2, projection="post~shadow")

    @pytest.mark.parametrize(
        "expected",
        [None, checkpoint(4), checkpoint(6), checkpoint(5, generation=2)],
        ids=["none", "behind", "ahead", "another-generation"],
    )
    def test_it_moves_only_from_where_it_is_expected(
        self, store: ModelStore, expected: Checkpoint | None
    ) -> None:
        store.commit(None, checkpoint(5), [stored("1", Parcel("Ada"))])

        with pytest.raises(CheckpointMovedError, match="post"):
            store.commit(expected, checkpoint(7), [stored("1", Parcel("Eve"))])

        assert store.checkpoint("post") == checkpoint(5)
        assert ModelReader(store, "post").get(Parcel, "1").value == Parcel("Ada")

    def test_it_does_not_move_where_there_is_none(self, store: ModelStore) -> None:
        with pytest.raises(CheckpointMovedError):
            store.commit(checkpoint(0), checkpoint(1))

        assert store.checkpoint("post") is None

    def test_it_is_expected_by_generation_and_position_alone(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(5))

        store.commit(Checkpoint("post", 1, 5, "another shape", uuid4()), checkpoint(6))

        assert store.checkpoint("post") == checkpoint(6)

    def test_a_commit_to_where_it_is_already_confirms_it(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(5))

        store.commit(checkpoint(5), checkpoint(5))

        assert store.checkpoint("post") == checkpoint(5)

    def test_it_may_go_back_with_a_new_generation(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(5))

        store.commit(checkpoint(5), checkpoint(0, generation=2))

        assert store.checkpoint("post") == checkpoint(0, generation=2)

    def test_of_several_that_move_it_at_once_one_does(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(0))
        start = Barrier(8)

        def move(number: int) -> str | None:
            start.wait()
            parcel = stored(f"of {number}", Parcel("Ada"))
            try:
                store.commit(checkpoint(0), checkpoint(1), [parcel])
            except CheckpointMovedError:
                return None
            return parcel.id

        with ThreadPoolExecutor(8) as pool:
            moved = [id for id in pool.map(move, range(8)) if id is not None]

        assert len(moved) == 1
        assert find(store) == moved


class TestModels:
    def test_what_was_written_is_read_with_the_position(self, store: ModelStore) -> None:
        model = stored("1", Parcel("Ada \N{PARTY POPPER}"), created=3, position=7)

        store.commit(None, checkpoint(9), [model])

        assert store.get("post", PARCELS.name, "1") == Reading(9, model)
        assert store.find("post", PARCELS, Filter()) == Reading(9, [model])

    def test_there_is_nothing_at_first(self, store: ModelStore) -> None:
        assert store.get("post", PARCELS.name, "1") == Reading(0, None)
        assert store.find("post", PARCELS, Filter()) == Reading(0, [])

    def test_what_is_not_there_is_none(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(9), [stored("1", Parcel("Ada"))])

        assert store.get("post", PARCELS.name, "2") == Reading(9, None)

    def test_a_model_is_replaced_in_its_place(self, store: ModelStore) -> None:
        fill(store, [stored(str(n), Parcel("Ada"), created=n) for n in (1, 2, 3)])
        changed = stored("2", Parcel("Eve"), created=2, position=4)

        fill(store, [changed])

        assert find(store) == ["1", "2", "3"]
        assert find(store, equal={"owner": "Ada"}) == ["1", "3"]
        assert find(store, equal={"owner": "Eve"}) == ["2"]
        assert store.get("post", PARCELS.name, "2").value == changed

    def test_a_deleted_model_is_gone(self, store: ModelStore) -> None:
        fill(store, [stored(str(n), Parcel("Ada"), created=n) for n in (1, 2)])

        fill(store, [stored("1", None, position=3), stored("never there", None, position=3)])

        reader = ModelReader(store, "post")
        assert reader.get(Parcel, "1").value is None
        assert find(store) == ["2"]
        assert find(store, equal={"owner": "Ada"}) == ["2"]

    def test_a_deleted_model_may_be_made_anew(self, store: ModelStore) -> None:
        fill(store, [stored("1", Parcel("Ada")), stored("2", Parcel("Bob"), created=2)])
        fill(store, [stored("1", None, position=3)])

        fill(store, [stored("1", Parcel("Eve"), created=4)])

        assert find(store) == ["2", "1"]
        assert ModelReader(store, "post").get(Parcel, "1").value == Parcel("Eve")

    def test_preparing_again_changes_nothing(self, store: ModelStore) -> None:
        fill(store, [stored("1", Parcel("Ada"))])

        store.prepare([PARCELS])

        assert find(store) == ["1"]

    def test_an_index_may_be_added_later(self, store: ModelStore) -> None:
        plain, indexed = Collection("post_letter"), Collection("post_letter", ("owner",))
        store.prepare([plain])
        letter = StoredModel("post_letter", "1", 1, 1, '{"owner":"Ada"}')

        store.prepare([indexed])
        store.commit(None, checkpoint(1), [letter])

        assert store.find("post", indexed, Filter(equal={"owner": "Ada"})).value == [letter]

    def test_a_commit_concerns_several_collections(self, store: ModelStore) -> None:
        store.prepare([LETTERS])

        store.commit(None, checkpoint(1), [LETTER, stored("1", Parcel("Ada"))])

        assert store.find("post", LETTERS, Filter()).value == [LETTER]
        assert find(store) == ["1"]


class TestFind:
    @pytest.fixture(autouse=True)
    def parcels(self, store: ModelStore) -> None:
        route = UUID(int=7)
        parcels = [
            Parcel("Ada", 1, fragile=True),
            Parcel("Bob", 2, route=route),
            Parcel("Ada", 2, fragile=True, route=route),
            Parcel("true", 0),
            Parcel("2", 2**53 + 1, note="x"),
            Parcel("O'Hara \"$.%\N{PARTY POPPER}", -1),
        ]
        # Written in some other order than they are to be listed in.
        models = [stored(str(n), parcel, created=n) for n, parcel in enumerate(parcels, 1)]
        fill(store, models[::-1])

    @pytest.mark.parametrize(
        ("equal", "found"),
        [
            ({"owner": "Ada"}, "13"),
            ({"owner": "true"}, "4"),
            ({"owner": "2"}, "5"),
            ({"owner": "O'Hara \"$.%\N{PARTY POPPER}"}, "6"),
            ({"owner": "Nobody"}, ""),
            ({"weight": 2}, "23"),
            ({"weight": -1}, "6"),
            ({"weight": 2**53 + 1}, "5"),
            ({"weight": 2**53}, ""),
            ({"fragile": True}, "13"),
            ({"fragile": False}, "2456"),
            ({"route": UUID(int=7)}, "23"),
            ({"note": "x"}, "5"),
            ({"owner": "Ada", "weight": 2}, "3"),
            ({"owner": "Ada", "fragile": False}, ""),
            ({"owner": "Ada", "fragile": True, "route": UUID(int=0), "weight": 1}, "1"),
        ],
        ids=str,
    )
    def test_by_the_values_of_fields(
        self, store: ModelStore, equal: dict[str, Any], found: str
    ) -> None:
        assert find(store, equal=equal) == list(found)
        assert find(store, equal=equal, reverse=True) == list(reversed(found))

    def test_by_nothing_but_indexed_fields(self, store: ModelStore) -> None:
        with pytest.raises(ValueError, match="post_parcel has no index on color, size"):
            store.find("post", PARCELS, Filter(equal={"size": 1, "owner": "Ada", "color": "red"}))

    def test_by_the_longest_names_that_there_may_be(self, store: ModelStore) -> None:
        one, other = (59 * "f" + end for end in "ab")
        collection = Collection(120 * "c", (one, other))
        model = StoredModel(collection.name, "1", 1, 1, f'{{"{one}":1,"{other}":2}}')
        store.prepare([collection])
        fill(store, [model])

        for equal, found in (({one: 1}, [model]), ({other: 2}, [model]), ({one: 2}, [])):
            assert store.find("post", collection, Filter(equal=equal)).value == found

    def test_in_the_order_of_creation(self, store: ModelStore) -> None:
        assert find(store) == list("123456")
        assert find(store, reverse=True) == list("654321")

    def test_at_most_so_many(self, store: ModelStore) -> None:
        assert find(store, limit=2) == list("12")
        assert find(store, limit=2, reverse=True) == list("65")
        assert find(store, limit=1, equal={"owner": "Ada"}) == ["1"]
        assert find(store, limit=0) == []

    def test_after_a_key(self, store: ModelStore) -> None:
        assert find(store, after=(2, "2")) == list("3456")
        assert find(store, after=(3, "3"), reverse=True) == list("21")
        assert find(store, after=(1, "1"), equal={"owner": "Ada"}) == ["3"]
        assert find(store, after=(6, "6")) == []

    def test_after_the_key_of_a_model_that_is_gone(self, store: ModelStore) -> None:
        fill(store, [stored("3", None, position=9)])

        assert find(store, after=(3, "3")) == list("456")
        assert find(store, after=(3, "3"), reverse=True) == list("21")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("equal", [{}, {"owner": "Ada"}], ids=["all", "filtered"])
def test_pages_meet_without_overlap_where_many_were_created_at_once(
    store: ModelStore, reverse: bool, equal: dict[str, str]
) -> None:
    """Models that one event made have the same ``rank``: the id decides then."""
    models = [
        stored(f"{letter}-{number}", Parcel("Ada" if letter in "aZ" else "Bob"), created=number)
        for number in (1, 2, 2**33)
        for letter in "aBcZé"
    ]
    fill(store, models)
    wanted = sorted(
        (m for m in models if not equal or '"Ada"' in str(m.data)),
        key=lambda model: (model.rank, model.id.encode()),
        reverse=reverse,
    )

    paged: list[StoredModel] = []
    while page := store.find(
        "post",
        PARCELS,
        Filter(equal=equal, after=paged[-1].key if paged else None, limit=4, reverse=reverse),
    ).value:
        paged += page

    assert paged == wanted


class TestGenerations:
    def test_readers_see_the_live_one_unless_they_ask(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(5), [stored("1", Parcel("Ada"))])
        beside = checkpoint(3, generation=2, projection="post~shadow")
        store.commit(None, beside, [stored("1", Parcel("Eve")), stored("2", Parcel("Bob"))])

        seen = store.get("post", PARCELS.name, "1")
        other = store.get("post", PARCELS.name, "1", generation=2)

        assert (seen.position, seen.value) == (5, stored("1", Parcel("Ada")))
        assert other.value == stored("1", Parcel("Eve"))
        assert find(store) == ["1"]
        assert ids(store.find("post", PARCELS, Filter(), generation=2)) == ["1", "2"]

    def test_moving_the_checkpoint_changes_all_models_at_once(self, store: ModelStore) -> None:
        store.commit(None, checkpoint(5), [stored("1", Parcel("Ada"))])
        beside = checkpoint(5, generation=2, projection="post~shadow")
        store.commit(None, beside, [stored("2", Parcel("Bob"))])

        store.commit(checkpoint(5), checkpoint(5, generation=2))

        assert find(store) == ["2"]
        assert store.get("post", PARCELS.name, "1").value is None

    def test_one_is_discarded_and_no_other(self, store: ModelStore) -> None:
        many = [stored(str(n), Parcel("Ada"), created=n) for n in range(2500)]
        beside = checkpoint(5, generation=2, projection="post~shadow")
        store.commit(None, beside, many)
        store.commit(None, checkpoint(5), [stored("1", Parcel("Ada"))])

        store.discard([PARCELS.name], 2)
        store.discard([PARCELS.name], 7)

        assert ids(store.find("post", PARCELS, Filter(), generation=2)) == []
        assert find(store) == ["1"]


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.commit(checkpoint(1), checkpoint(2), [LETTER]),
        lambda store: store.get("post", LETTERS.name, "1"),
        lambda store: store.find("post", LETTERS, Filter()),
        lambda store: store.discard([LETTERS.name], 1),
    ],
    ids=["commit", "get", "find", "discard"],
)
def test_a_collection_that_was_not_prepared_is_refused(
    new_storage: NewStorage, use: Callable[[ModelStore], object]
) -> None:
    storage = new_storage()
    store = storage.backend().models
    store.commit(None, checkpoint(1))
    if storage.url != "memory://":  # also where another process has made it
        storage.backend().models.prepare([LETTERS])
    with pytest.raises(
        ProjectionError, match=r"post_letter was not prepared: .* models\.prepare\("
    ):
        use(store)
    assert store.checkpoint("post") == checkpoint(1)


def test_closing_twice_does_nothing(new_storage: NewStorage) -> None:
    backend = new_storage().backend()
    backend.models.prepare([PARCELS])
    backend.close()
    backend.close()


def test_any_thread_may_read_and_write(store: ModelStore) -> None:
    def work(number: int) -> list[str]:
        own = f"work{number}"
        collection = Collection(f"{own}_parcel", ("owner",))
        store.prepare([collection])
        before = None
        for position in range(1, 21):
            after = checkpoint(position, projection=own)
            data = msgspec.json.encode(Parcel("Ada")).decode()
            model = StoredModel(collection.name, str(position), position, position, data)
            store.commit(before, after, [model])
            before = after
        return ids(store.find(own, collection, Filter(equal={"owner": "Ada"})))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8)))

    assert found == [[str(position) for position in range(1, 21)]] * 8


def test_models_and_checkpoints_outlive_the_store(durable: Storage) -> None:
    before = durable.backend()
    before.models.prepare([PARCELS])
    fill(before.models, [stored("1", Parcel("Ada"))])
    before.close()

    after = durable.backend().models
    after.prepare([PARCELS])
    assert after.checkpoint("post") == checkpoint(1)
    assert find(after) == ["1"]


def test_two_processes_move_a_checkpoint_one_after_the_other(durable: Storage) -> None:
    one, other = durable.backend().models, durable.backend().models
    one.prepare([PARCELS])
    other.prepare([PARCELS])
    one.commit(None, checkpoint(1), [stored("1", Parcel("Ada"))])

    with pytest.raises(CheckpointMovedError):
        other.commit(None, checkpoint(1))
    other.commit(checkpoint(1), checkpoint(2), [stored("2", Parcel("Bob"), created=2)])

    assert one.checkpoint("post") == checkpoint(2)
    assert find(one) == ["1", "2"]
