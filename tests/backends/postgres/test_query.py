"""What leads PostgreSQL to events and models: the plans that the server makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs

from shop.eventsourcing import (
    Filter,
    Query,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel
from tests.backends.long_log import EVENTS, QUERIES, fill
from tests.backends.postgres.opened import Opened
from tests.stores import NewUrl


@pytest.fixture
def url(postgres: NewUrl) -> str:
    return postgres()


PARCELS = Collection("post_parcel", ("owner", "sent"))


@pytest.fixture(scope="module")
def long_log(postgres: NewUrl) -> Iterator[Opened]:
    """Where the long log is."""
    with Opened(postgres()) as opened:
        fill(opened.store)
        yield opened


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_a_query_is_led_by_an_index(long_log: Opened, query: Query) -> None:
    for plan in long_log.plans(lambda: next(long_log.store.read(query), None)):
        for node in nodes(plan):
            assert node["Node Type"] != "Seq Scan" or node["Relation Name"] != "events"
            if "Index" in node["Node Type"]:
                looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                assert looked_at * node["Actual Loops"] <= 8000


def test_a_span_of_time_is_found_by_its_index(long_log: Opened) -> None:
    [middle] = long_log.store.read(Query(after=EVENTS // 2, limit=1))
    query = Query(since=middle.time, until=middle.time)
    assert middle in list(long_log.store.read(query))
    for plan in long_log.plans(lambda: next(long_log.store.read(query), None)):
        for node in nodes(plan):
            assert node["Node Type"] != "Seq Scan"
            assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= 1000


TEN_IDS = frozenset(str(n) for n in range(0, 5000, 500))


def test_lists_of_models_are_led_by_their_indexes(url: str) -> None:
    with Opened(url) as opened:
        opened.models.prepare([PARCELS])
        opened.models.commit(
            None,
            Checkpoint("post", 1, 1, "", uuid4()),
            [
                StoredModel(
                    PARCELS.name, str(n), n, 1, json.dumps({"owner": f"{n % 50}", "sent": True})
                )
                for n in range(5000)
            ],
        )
        for filter, index in (
            (Filter(limit=10), "in_order"),
            (Filter(limit=10, after=(2500, "2500"), reverse=True), "in_order"),
            (Filter(limit=10, equal={"owner": "7"}), "by_owner"),
            (Filter(limit=10, equal={"owner": "7"}, after=(2500, "2500")), "by_owner"),
            (Filter(limit=10, equal={"owner": "7", "sent": True}), "by_owner"),
            (Filter(limit=10, equal={"sent": True, "owner": "7"}), "by_sent"),
            (Filter(ids=TEN_IDS), "pkey"),
            (Filter(ids=TEN_IDS, equal={"owner": "0"}), "pkey"),
        ):
            find = partial(opened.models.find, "post", PARCELS, filter)
            scan = scan_of_parcels(opened, find)
            assert scan["Index Name"].endswith(index)
            assert scan["Actual Rows"] * scan["Actual Loops"] == 10
        scan = scan_of_parcels(opened, partial(opened.models.get, "post", PARCELS.name, "4999"))
        assert scan["Index Name"].endswith("pkey")


def test_models_are_deleted_without_a_look_at_others(url: str) -> None:
    with Opened(url) as opened:
        opened.models.prepare([PARCELS])
        checkpoint = Checkpoint("post", 1, 1, "", uuid4())
        models = [StoredModel(PARCELS.name, str(n), n, 1, "{}") for n in range(5000)]
        opened.models.commit(None, checkpoint, models)
        gone = [StoredModel(PARCELS.name, id, 0, 2, None) for id in TEN_IDS]
        opened.models.commit(checkpoint, structs.replace(checkpoint, position=2), gone)
        assert not opened.models.find("post", PARCELS, Filter(ids=TEN_IDS)).value

        with opened.database.transaction() as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
        entries_read = opened.database.read(
            "SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes"
            " WHERE relname = 'model_post_parcel' AND idx_tup_read > 0 AND schemaname = %s",
            (opened.database.names.schema,),
        )
        assert [name for name, _ in entries_read] == ["model_post_parcel_pkey"]


def scan_of_parcels(opened: Opened, ask: Callable[[], object]) -> dict[str, Any]:
    """How the table of parcels is looked into."""
    [plan] = opened.plans(ask)
    [scan] = [n for n in nodes(plan) if "model_post_parcel" in n.get("Index Name", "")]
    return scan


def test_a_long_value_can_be_looked_up(url: str) -> None:
    owners = ["x" * 10_000 + end for end in "ab"]
    with Opened(url) as opened:
        opened.models.prepare([PARCELS])
        opened.models.commit(
            None,
            Checkpoint("post", 1, 1, "", uuid4()),
            [
                StoredModel(PARCELS.name, owner[-1], 1, 1, json.dumps({"owner": owner}))
                for owner in owners
            ],
        )
        found = opened.models.find("post", PARCELS, Filter(equal={"owner": owners[1]})).value
        assert [model.id for model in found] == ["b"]
