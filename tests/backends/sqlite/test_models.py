"""How the model store on SQLite finds models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.backends.sqlite import Database, SqliteModelStore
from shop.eventsourcing import Filter, ReadModel
from shop.eventsourcing.models.model import Collection, IndexValue
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel


class Parcel(ReadModel, frozen=True):
    owner: str
    fragile: bool = False
    route: UUID = UUID(int=0)

    indexes = ("owner", "fragile", "route")


PARCELS = Collection.of("post", Parcel)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """It has a hundred parcels, all of them Ada's."""
    data = msgspec.json.encode(Parcel("Ada")).decode()
    models = [StoredModel(PARCELS.name, str(n), n, n, data) for n in range(100)]
    with closing(Database(tmp_path / "models.db")) as database:
        store = SqliteModelStore(database)
        store.prepare([PARCELS])
        store.commit(None, Checkpoint("post", 1, 100, "a shape", uuid4()), models)
        yield database


def plan(database: Database, filter: Filter) -> list[str]:
    """The steps of the one query for parcels that finds them."""
    store = SqliteModelStore(database)
    store.prepare([PARCELS])
    statements: list[str] = []
    note_statements(database, statements)
    store.find("post", PARCELS, filter)
    [select] = [sql for sql in statements if "model_post_parcel" in sql]
    return [row[3] for row in database.read(f"EXPLAIN QUERY PLAN {select}")]


@pytest.mark.parametrize(
    ("filter", "index"),
    [
        (Filter(), "in_order"),
        (Filter(after=(5, "5"), reverse=True), "in_order"),
        (Filter(equal={"owner": "Ada"}), "by_owner"),
        (Filter(equal={"route": UUID(int=0)}, after=(5, "5"), limit=3), "by_route"),
        (Filter(equal={"fragile": True}, after=(5, "5"), reverse=True), "by_fragile"),
        (Filter(equal={"owner": "Ada", "fragile": True}), "by_owner"),
        (Filter(equal={"fragile": True, "owner": "Ada"}), "by_fragile"),
    ],
    ids=["all", "all-after", "equal", "equal-after", "equal-reverse", "first", "other first"],
)
def test_models_are_found_in_order_by_an_index_without_sorting(
    database: Database, filter: Filter, index: str
) -> None:
    steps = plan(database, filter)
    [search] = [step for step in steps if step.startswith("SEARCH m ")]
    assert f"USING INDEX model_post_parcel_{index} " in search
    assert not any("SCAN" in step or "B-TREE" in step for step in steps)


@pytest.mark.parametrize("equal", [{}, {"owner": "Ada"}], ids=["ids", "ids-equal"])
def test_models_are_found_by_their_ids_without_a_look_at_others(
    database: Database, equal: dict[str, IndexValue]
) -> None:
    steps = plan(database, Filter(ids=frozenset({"7", "none"}), equal=equal))
    [search] = [step for step in steps if step.startswith("SEARCH m ")]
    assert "USING INDEX sqlite_autoindex_model_post_parcel_1 (generation=? AND id=?)" in search


def note_statements(database: Database, statements: list[str]) -> None:
    """Note the statements, values filled in, that the next read runs."""
    database.read("SELECT 1")
    [connection] = database._idle_readers  # nobody else has the connection
    connection.set_trace_callback(statements.append)
