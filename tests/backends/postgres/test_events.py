"""What is PostgreSQL's own: setting up, what is refused, tampering."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from shop.bootstrap import open_event_store
from shop.eventsourcing import (
    Commit,
    EventIdReusedError,
    EventStore,
    NewCommit,
    Query,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from shop.urls import DatabaseUrl
from tests.backends.conftest import Start
from tests.backends.postgres.opened import Opened
from tests.conftest import Eventually
from tests.notebook import Noted, counted, note, noted, positions, registry, stream
from tests.stores import NewUrl


@pytest.fixture
def url(postgres: NewUrl) -> str:
    return postgres()


@pytest.fixture
def store(url: str) -> Iterator[EventStore]:
    with open_event_store(url, registry()) as store:
        yield store


def behind_its_back(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of some other program, which looks into the store's schema."""
    parts = DatabaseUrl.of(url)
    connection = psycopg.connect(parts.driver, autocommit=True)
    connection.execute(f"SET search_path = {parts.schema}")
    return connection


def in_database(url: str, name: str) -> str:
    return url.replace("/tests?", f"/{name}?")


def with_parameter(url: str, parameter: str) -> str:
    return f"{url}&{parameter}"


def made_by_somebody(url: str, encoding: str) -> str:
    """The name of a database that was made beforehand."""
    name = f"made_{uuid4().hex[:8]}"
    with behind_its_back(in_database(url, "postgres")) as raw:
        raw.execute(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C' ENCODING '{encoding}'")
    return name


def check_texts(store: EventStore) -> None:
    texts = ["plain", "\xfc", "\u20ac \u65e5\u672c \U0001f600 \0"]
    store.append([noted(note(), 1, text) for text in texts])
    found = store.read(Query(aggregates=["notebook.note"]))
    assert [event.data for event in found] == [Noted(text) for text in texts]


class TestSettingUp:
    def test_the_database_is_made(self, url: str) -> None:
        name = f"made_{uuid4().hex[:8]}"
        with open_event_store(in_database(url, name), registry()) as store:
            assert store.append([noted(note(), 1)]).first == 1

    def test_the_database_made_holds_any_text_whatever_the_server_makes_by_default(
        self, url: str
    ) -> None:
        name = f"made_{uuid4().hex[:8]}"
        encode = "UPDATE pg_database SET encoding = pg_char_to_encoding(%s) WHERE datistemplate"
        # Nothing can be copied from a database that somebody uses, which is the default as well.
        with behind_its_back(in_database(url, "template1")) as template:
            template.execute(encode, ("LATIN1",))
            try:
                with open_event_store(in_database(url, name), registry()) as store:
                    check_texts(store)
            finally:
                template.execute(encode, ("UTF8",))

    @pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
    def test_any_text_comes_back_whatever_clients_use_by_default(
        self, url: str, encoding: str
    ) -> None:
        name = made_by_somebody(url, encoding)
        latin = with_parameter(in_database(url, name), "client_encoding=latin1")
        with open_event_store(latin, registry()) as store:
            check_texts(store)

    def test_a_database_that_does_not_hold_all_texts_is_refused(self, url: str) -> None:
        name = made_by_somebody(url, "LATIN1")
        with (
            open_event_store(in_database(url, name), registry()) as store,
            pytest.raises(StoreFormatError, match="encoding LATIN1"),
        ):
            store.head()

    def test_by_threads_that_open_it_at_once(self, url: str) -> None:
        start = threading.Barrier(6)

        def open_it(_: int) -> object:
            start.wait()
            with open_event_store(url, registry()) as store:
                store.append([noted(note(), 1)])
                return store.info().identity

        with ThreadPoolExecutor(6) as pool:
            assert len(set(pool.map(open_it, range(6)))) == 1
        with open_event_store(url, registry()) as store:
            assert store.head() == 6

    def test_stores_of_one_schema_may_be_made_at_once(self, url: str) -> None:
        start = threading.Barrier(6)

        def open_it(number: int) -> int:
            start.wait()
            own = with_parameter(url, f"prefix=p{number}_")
            with open_event_store(own, registry()) as store:
                return store.append([noted(note(), 1)]).first

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(open_it, range(6))) == {1}

    def test_a_schema_may_be_called_as_a_word_of_sql(self, url: str) -> None:
        own = DatabaseUrl.of(url).schema
        word = with_parameter(url.replace(own, "user"), f"prefix={own}")
        with open_event_store(word, registry()) as store:
            store.append([noted(note(), 1)])
            assert len(list(store.read(Query(aggregates=["notebook.note"])))) == 1

    def test_stores_lie_side_by_side(self, url: str) -> None:
        with (
            open_event_store(with_parameter(url, "prefix=one_"), registry()) as one,
            open_event_store(with_parameter(url, "prefix=other_"), registry()) as other,
        ):
            one.append([noted(note(), 1)])
            assert other.head() == 0
            assert one.info().identity != other.info().identity

    def test_a_store_of_a_newer_program_is_refused(self, url: str) -> None:
        with open_event_store(url, registry()) as store:
            store.head()
        with behind_its_back(url) as raw:
            raw.execute("UPDATE store SET version = 99")
        with (
            open_event_store(url, registry()) as store,
            pytest.raises(StoreFormatError, match="schema version 99"),
        ):
            store.head()

    @pytest.mark.parametrize("table", ["events", "store"])
    def test_tables_of_another_program_are_left_alone(self, url: str, table: str) -> None:
        schema = DatabaseUrl.of(url).schema
        with behind_its_back(url) as raw:
            raw.execute(f"CREATE SCHEMA {schema}")
            raw.execute(f"CREATE TABLE {table} (theirs text)")
            with (
                open_event_store(url, registry()) as store,
                pytest.raises(StoreFormatError, match="some other program"),
            ):
                store.head()
            tables = raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
            assert tables.fetchall() == [(table,)]

    def test_a_user_who_may_only_use_a_schema_made_for_him(self, url: str) -> None:
        schema = DatabaseUrl.of(url).schema
        tenant = f"tenant_{uuid4().hex[:8]}"
        with behind_its_back(url) as raw:
            raw.execute(f"CREATE ROLE {tenant} LOGIN PASSWORD 'secret'")
            raw.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {tenant}")
        own = re.sub("//.*@", f"//{tenant}:secret@", url)
        with open_event_store(own, registry()) as store:
            assert store.append([noted(note(), 1)]).first == 1

    def test_the_password_is_never_shown(self, url: str) -> None:
        wrong = url.replace("correct%20horse", "wr0ng")
        with open_event_store(wrong, registry()) as store, pytest.raises(StoreError) as refused:
            store.head()
        assert not isinstance(refused.value, StoreUnavailableError)
        assert "password authentication failed" in str(refused.value)
        error: BaseException | None = refused.value
        while error is not None:
            assert "wr0ng" not in str(error)
            error = error.__cause__


def test_a_forked_process_does_not_speak_on_the_connections_of_its_parent(
    url: str, start_on_store: Start
) -> None:
    program = start_on_store("fork", url)
    assert program.hear() == "True 0"
    assert program.end() == 0


def test_what_is_dropped_under_a_running_program_is_made_by_the_next(url: str) -> None:
    told = "dropped while it was in use; start the shop again"
    with open_event_store(url, registry()) as store:
        store.append([noted(note(), 1)])
        with behind_its_back(url) as raw:
            raw.execute(f"DROP SCHEMA {DatabaseUrl.of(url).schema} CASCADE")
        with pytest.raises(StoreError, match=told):
            store.append([noted(note(), 1)])
        with pytest.raises(StoreError, match=told):
            list(store.read())
    with open_event_store(url, registry()) as store:
        assert store.append([noted(note(), 1)]).last == 1


def test_an_older_state_that_is_restored_under_a_running_program_is_gone_on_with(url: str) -> None:
    name = made_by_somebody(url, "UTF8")
    with (
        open_event_store(in_database(url, name), registry()) as store,
        behind_its_back(in_database(url, "postgres")) as raw,
    ):
        ref = note()
        store.append([noted(ref, 1)])
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        raw.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
        store.append([counted(ref, 2)])
        raw.execute(f"DROP DATABASE {name} WITH (FORCE)")
        raw.execute(f"ALTER DATABASE {name}_backup RENAME TO {name}")
        assert store.append([counted(ref, 2)]).first == 2
        assert positions(store.read(Query(aggregates=[ref.name]))) == [1, 2]


def test_an_id_that_is_taken_is_told_however_the_server_writes_names(
    url: str, store: EventStore
) -> None:
    event = noted(note(), 1)
    store.append([event])
    quoting = with_parameter(url, "options=-c%20quote_all_identifiers%3Don")
    with open_event_store(quoting, registry()) as other, pytest.raises(EventIdReusedError):
        other.append([noted(note(), 1, id=event.id)])


TAMPERING = [
    "UPDATE events SET data = '{}'",
    "DELETE FROM events WHERE position = 2",
    "TRUNCATE events",
    "TRUNCATE empty_commits",
    "DELETE FROM empty_commits",
    "UPDATE empty_commits SET digest = ''",
    "INSERT INTO empty_commits SELECT commit_id, 2, digest FROM events WHERE position = 2",
    "INSERT INTO empty_commits SELECT id, 2, digest FROM empty_commits",
]


def inserting(position: object = 3, aggregate: str = "aggregate_id", version: int = 3) -> str:
    """SQL that inserts the second event again, at another place."""
    return (
        "INSERT INTO events SELECT"
        f" {position}, gen_random_uuid(), name, schema_version, time, aggregate, {aggregate},"
        f" {version}, data, metadata FROM events WHERE position = 2"
    )


@pytest.mark.parametrize(
    "sql",
    [
        *TAMPERING,
        inserting(position=4),
        inserting(position=2),
        inserting(position=0),
        inserting(version=2),
        inserting(version=4),
        inserting(aggregate="gen_random_uuid()", version=2),
    ],
)
def test_the_log_is_append_only_and_in_order_for_everybody(
    url: str, store: EventStore, sql: str
) -> None:
    ref = note()
    store.append(stream(ref, 2))
    store.append([])
    before = list(store.read())
    with behind_its_back(url) as raw, pytest.raises(psycopg.Error):
        raw.execute(sql)
    assert list(store.read()) == before
    assert store.append(stream(ref, 1, after=2)).first == 3


def test_what_continues_the_log_is_not_refused(url: str, store: EventStore) -> None:
    """So that the test above refuses for the reasons it means."""
    store.append(stream(note(), 2))
    with behind_its_back(url) as raw:
        raw.execute(inserting())
    assert store.head() == 3


class TestOtherTransactions:
    def test_one_left_open_is_waited_for_no_longer_than_said(self, url: str) -> None:
        with (
            open_event_store(with_parameter(url, "timeout=0.3"), registry()) as store,
            behind_its_back(url) as raw,
        ):
            store.append(stream(note(), 2))
            with raw.transaction():
                raw.execute(inserting())  # not committed: the next position is taken, perhaps
                with pytest.raises(StoreUnavailableError, match=r"lock for over 0\.3 s"):
                    store.append([noted(note(), 1)])
                assert store.head() == 2
            assert store.append([noted(note(), 1)]).first == 4

    def test_one_that_dies_leaves_no_gap(self, url: str, store: EventStore) -> None:
        store.append(stream(note(), 2))
        raw = behind_its_back(url)
        raw.execute("BEGIN")
        raw.execute(inserting())
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.append, [noted(note(), 1)])
            raw.close()
            assert waiting.result().first == 3

    def test_one_that_takes_longer_than_the_server_allows_is_told_of(self, url: str) -> None:
        with behind_its_back(url) as raw, open_event_store(url, registry()) as store:
            store.append([noted(note(), 1)])
            limited = with_parameter(url, "options=-c%20statement_timeout%3D100")
            with open_event_store(limited, registry()) as hurried, raw.transaction():
                raw.execute(f"LOCK TABLE {DatabaseUrl.of(url).schema}.events")
                with pytest.raises(StoreUnavailableError, match="due to statement timeout"):
                    hurried.append([noted(note(), 1)])

    def test_a_model_being_defined_holds_up_no_append(self, url: str) -> None:
        with (
            Opened(with_parameter(url, "timeout=0.5")) as opened,
            opened.database.defining(),
        ):
            assert opened.store.append([noted(note(), 1)]).first == 1

    def test_appends_at_once_where_transactions_keep_to_what_they_saw_first(self, url: str) -> None:
        """As in a database whose transactions are isolated by default."""
        isolated = with_parameter(url, "options=-c%20default_transaction_isolation%3Dserializable")
        with ExitStack() as opened, ThreadPoolExecutor(4) as pool:
            stores = [
                opened.enter_context(open_event_store(isolated, registry())) for _ in range(4)
            ]
            positions = pool.map(
                lambda n: stores[n % 4].append([noted(note(), 1)]).first, range(100)
            )
            assert sorted(positions) == list(range(1, 101))

    def test_one_that_comes_between_two_of_a_group_leaves_the_first_done(
        self, url: str, eventually: Eventually
    ) -> None:
        """The second conflicts with the first, so that each is a transaction of its own."""
        with ExitStack() as ending, ThreadPoolExecutor(2) as pool:
            opened = ending.enter_context(Opened(with_parameter(url, "timeout=1")))
            opened.store.append([noted(note(), 1)])
            before, between, watching = (
                ending.enter_context(behind_its_back(url)) for _ in range(3)
            )

            def in_the_queue(count: int) -> bool:
                found = watching.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ).fetchone()
                return found == (count,)

            lock = "SELECT pg_advisory_xact_lock(%s)", (opened.database.names.lock,)
            ref = note()
            before.execute("BEGIN")
            before.execute(*lock)
            appending = pool.submit(
                opened.store.append_each, [NewCommit([noted(ref, 1)]) for _ in range(2)]
            )
            eventually(lambda: in_the_queue(1))
            between.execute("BEGIN")
            pool.submit(lambda: between.execute(*lock))
            eventually(lambda: in_the_queue(2))
            before.execute("COMMIT")
            first, second = appending.result()
            assert isinstance(first, Commit)
            assert isinstance(second, StoreUnavailableError)
            assert (first.first, first.replayed, opened.store.head()) == (2, False, 2)

    def test_a_silent_owner_of_the_lock_loses_it(self, url: str) -> None:
        """As when a writer's process or machine stops in the middle of an append."""
        with (
            Opened(with_parameter(url, "timeout=0.5")) as stopped,
            open_event_store(url, registry()) as other,
        ):
            other.append([noted(note(), 1)])

            def hold_the_lock_in_silence() -> None:
                with stopped.database.transaction() as connection:
                    connection.execute(
                        "SELECT pg_advisory_xact_lock(%s)", (stopped.database.names.lock,)
                    )
                    assert other.append([noted(note(), 1)]).first == 2
                    connection.execute("SELECT 1")

            with pytest.raises(StoreUnavailableError, match=r"silent for over 0\.5 s"):
                hold_the_lock_in_silence()
            assert stopped.store.append([noted(note(), 1)]).first == 3
