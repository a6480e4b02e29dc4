"""MongoDB's query plans: no query of the log looks at all of it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient, monitoring

from shop.backends.mongodb import Database, MongoEventStore
from shop.backends.mongodb.schema import (
    BY_AGGREGATE,
    BY_ID,
    BY_NAME,
    BY_POSITION,
    BY_TIME,
    BY_VERSION,
)
from shop.eventsourcing import Filter, Query
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel
from shop.urls import DatabaseUrl
from tests.backends.long_log import EVENTS, QUERIES, REFS, fill
from tests.notebook import note, noted, registry
from tests.stores import NewUrl


class Watched(monitoring.CommandListener):
    """Remembers the queries that a client sends."""

    def __init__(self) -> None:
        self.queries: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "find":
            keys = ("find", "filter", "sort", "hint", "limit", "projection")
            self.queries.append({k: event.command[k] for k in keys if k in event.command})

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


WATCHED = Watched()


@pytest.fixture(scope="module")
def url(mongodb: NewUrl) -> Iterator[str]:
    """Where the long log is."""
    url = mongodb()
    monitoring.register(WATCHED)
    parts = DatabaseUrl.of(url)
    database = Database(parts.driver, parts.database, prefix=parts.prefix)
    monitoring._LISTENERS.command_listeners.remove(WATCHED)
    with MongoEventStore(database, registry(), owns_database=True) as store:
        fill(store, of_one_event=True)
        STORES.append(store)
        yield url
        STORES.clear()


STORES: list[MongoEventStore] = []


def plans(url: str, query: Query, *, events: int = 20) -> list[dict[str, Any]]:
    """The server's account of every query that the first events of a read take."""
    WATCHED.queries.clear()
    deque(islice(STORES[0].read(query), events), maxlen=0)
    parts = DatabaseUrl.of(url)
    client: MongoClient[dict[str, Any]] = MongoClient(parts.driver)
    with client:
        return [
            client[parts.database].command("explain", asked, verbosity="executionStats")
            for asked in list(WATCHED.queries)
        ]


def indexes(plan: dict[str, Any]) -> set[str]:
    return set(re.findall(r"'indexName': '(\w+)'", str(plan["queryPlanner"]["winningPlan"])))


LED_BY = {
    "all": BY_POSITION,
    "after": BY_POSITION,
    "newest": BY_POSITION,
    "ids": BY_ID,
    "ref": BY_AGGREGATE,
    "newest of a ref": BY_AGGREGATE,
    "ref from version": BY_AGGREGATE,
    "ref between versions": BY_AGGREGATE,
    "ref beyond its version": BY_VERSION,
    "several refs": BY_AGGREGATE,
    "aggregate id": BY_AGGREGATE,
    "name": BY_NAME,
    "name after": BY_NAME,
    "newest of a name": BY_NAME,
    "several names": BY_NAME,
    "aggregate": BY_NAME,
}


@pytest.mark.parametrize(("name", "index"), LED_BY.items(), ids=LED_BY)
def test_a_query_is_led_by_an_index_and_looks_at_its_own_page_alone(
    url: str, name: str, index: str
) -> None:
    made = plans(url, QUERIES[name])
    assert any(index in indexes(plan) for plan in made)
    for plan in made:
        assert "COLLSCAN" not in str(plan)
        assert "'SORT'" not in str(plan["queryPlanner"]["winningPlan"]) or index == BY_ID
        assert plan["executionStats"]["totalDocsExamined"] <= 1000
        assert plan["executionStats"]["totalKeysExamined"] <= 2000


@pytest.mark.parametrize(
    "query",
    [
        Query(after=EVENTS // 2, limit=51),
        Query(limit=51, reverse=True),
        Query(names=["notebook.noted"], after=EVENTS // 2, limit=51),
        Query(names=["notebook.noted"], limit=51, reverse=True),
    ],
    ids=["all", "newest", "name", "newest of a name"],
)
def test_no_more_is_looked_at_than_the_limit_asks_for(url: str, query: Query) -> None:
    assert len(list(STORES[0].read(query))) == 51
    made = plans(url, query, events=51)
    looked_at = sum(plan["executionStats"]["totalDocsExamined"] for plan in made)
    assert 51 <= looked_at <= 52  # with the commit that the position before lies in


def test_a_span_of_time_is_found_by_its_index(url: str) -> None:
    [middle] = STORES[0].read(Query(after=EVENTS // 2, limit=1))
    query = Query(since=middle.time, until=middle.time)
    assert middle in list(STORES[0].read(query))
    for plan in plans(url, query):
        assert "COLLSCAN" not in str(plan)
        assert indexes(plan) == {BY_TIME}
        assert plan["executionStats"]["totalDocsExamined"] <= 1000


TEN_IDS = frozenset(str(n) for n in range(0, 5000, 500))


def test_lists_of_models_are_led_by_their_indexes(url: str) -> None:
    from shop.backends.mongodb import MongoModelStore

    models = MongoModelStore(STORES[0]._database)
    parcels = Collection("post_parcel", ("owner", "sent"))
    models.prepare([parcels])
    checkpoint = Checkpoint("post", 1, 1, "", uuid4())
    models.commit(
        None,
        checkpoint,
        [
            StoredModel(parcels.name, str(n), n, 1, f'{{"owner":"{n % 50}","sent":true}}')
            for n in range(5000)
        ],
    )
    parts = DatabaseUrl.of(url)
    client: MongoClient[dict[str, Any]] = MongoClient(parts.driver)
    for filter, index in (
        (Filter(limit=10), "in_order"),
        (Filter(limit=10, after=(2500, "2500"), reverse=True), "in_order"),
        (Filter(limit=10, equal={"owner": "7"}), "by_owner"),
        (Filter(limit=10, equal={"owner": "7"}, after=(2500, "2500")), "by_owner"),
        (Filter(limit=10, equal={"owner": "7", "sent": True}), "by_owner"),
        (Filter(ids=TEN_IDS), "_id_"),
        (Filter(ids=TEN_IDS, equal={"owner": "0"}), "_id_"),
    ):
        WATCHED.queries.clear()
        assert len(models.find("post", parcels, filter).value) == 10
        [asked] = [q for q in WATCHED.queries if "model_" in q["find"]]
        with_plan = client[parts.database].command("explain", asked, verbosity="executionStats")
        assert indexes(with_plan) == {index}
        assert "'SORT'" not in str(with_plan) or index == "_id_"
        assert with_plan["executionStats"]["totalDocsExamined"] == 10
    client.close()


def test_the_look_before_an_append_is_as_short_in_a_long_log(url: str) -> None:
    WATCHED.queries.clear()
    STORES[0]._log._forget()
    STORES[0].append([noted(REFS[3], EVENTS // 100 + 1), noted(note(), 1)])
    parts = DatabaseUrl.of(url)
    client: MongoClient[dict[str, Any]] = MongoClient(parts.driver)
    with client:
        for asked in WATCHED.queries:
            plan = client[parts.database].command("explain", asked, verbosity="executionStats")
            assert "COLLSCAN" not in str(plan)
            assert plan["executionStats"]["totalDocsExamined"] <= 2
            assert plan["executionStats"]["totalKeysExamined"] <= 4
