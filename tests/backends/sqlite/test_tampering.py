"""SQLite: what other programs do to the log."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shop.backends.sqlite import SqliteEventStore
from shop.eventsourcing import EventDecodeError
from tests.backends.sqlite.conftest import behind_its_back
from tests.notebook import note, stream

EMPTY = "(SELECT id FROM empty_commits)"


def inserting(keys: str, stream: str, or_: str = "", commit: str = "NULL") -> str:
    """SQL that inserts the second event again, with another position, id, place or commit."""
    return (
        f"INSERT {or_} INTO events (position, id, aggregate_id, aggregate, version, name,"
        " schema_version, time, data, metadata, commit_id, commit_size, digest)"
        f" SELECT {keys}, {stream}, name, schema_version, time, '{{}}', metadata, {commit}, 1, ''"
        " FROM events WHERE position = 2"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET data = '{}'",
        "UPDATE events SET position = position + 10",
        "DELETE FROM events",
        "DELETE FROM events WHERE position = 2",
        "UPDATE events SET digest = x'00'",
        inserting("position + 7, randomblob(16)", "aggregate_id, aggregate, version + 1"),
        inserting("3, randomblob(16)", "aggregate_id, aggregate, 4"),
        inserting("3, randomblob(16)", "randomblob(16), aggregate, 2"),
        inserting("NULL, id", "randomblob(16), aggregate, 1"),
        inserting("3, id", "aggregate_id, aggregate, 3", "OR REPLACE"),
        inserting("2, randomblob(16)", "aggregate_id, aggregate, 2", "OR REPLACE"),
        inserting("2, randomblob(16)", "aggregate_id, aggregate, 3", "OR REPLACE"),
        inserting("2, randomblob(16)", "randomblob(16), aggregate, 1", "OR REPLACE"),
        inserting("3, randomblob(16)", "randomblob(16), aggregate, 1", commit="commit_id"),
        inserting("3, randomblob(16)", "randomblob(16), aggregate, 1", "OR REPLACE", "commit_id"),
        inserting("3, randomblob(16)", "randomblob(16), aggregate, 1", commit=EMPTY),
        "INSERT INTO empty_commits SELECT commit_id, 2, digest FROM events WHERE position = 2",
        "INSERT OR REPLACE INTO empty_commits SELECT id, 9, digest FROM empty_commits",
        "UPDATE empty_commits SET digest = x'00'",
        "DELETE FROM empty_commits",
        "UPDATE store SET identity = randomblob(16)",
        "DELETE FROM store",
    ],
)
def test_the_log_is_append_only_for_everybody(
    path: Path, store: SqliteEventStore, sql: str
) -> None:
    ref, commit_id = note(), uuid4()
    store.append(stream(ref, 2), commit_id=commit_id)
    store.append([], commit_id=uuid4())
    before = [*store.read()], store.find_commit(commit_id), store.info()
    with behind_its_back(path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(sql)
    assert ([*store.read()], store.find_commit(commit_id), store.info()) == before
    assert store.append(stream(ref, 1, after=2)).first == 3


def insert_behind_its_back(path: Path, **columns: Any) -> None:
    """Add an event to an empty log as no store would write it."""
    row = {
        "position": 1,
        "id": uuid4().bytes,
        "name": "notebook.noted",
        "schema_version": 1,
        "time": 0,
        "aggregate": "notebook.note",
        "aggregate_id": uuid4().bytes,
        "version": 1,
        "data": '{"text": "hello"}',
        "metadata": "{}",
    } | columns
    with behind_its_back(path) as connection:
        marks = ", ".join("?" * len(row))
        connection.execute(
            f"INSERT INTO events ({', '.join(row)}) VALUES ({marks})", [*row.values()]
        )


@pytest.mark.parametrize(
    "columns",
    [
        {"data": "{"},
        {"data": "7"},
        {"data": '{"text": 7}'},
        {"schema_version": 2},
        {"metadata": "{"},
        {"metadata": '{"command_id": "nobody"}'},
    ],
    ids=str,
)
def test_an_event_that_was_written_wrongly_is_named(
    path: Path, store: SqliteEventStore, columns: dict[str, Any]
) -> None:
    id = uuid4()
    insert_behind_its_back(path, id=id.bytes, **columns)
    with pytest.raises(EventDecodeError) as refused:
        list(store.read())
    assert refused.value.event_id == id
    assert (refused.value.name, refused.value.position) == ("notebook.noted", 1)
