from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shop.backends.memory import MemoryModelStore
from shop.eventsourcing import (
    CheckpointMovedError,
    Difference,
    Filter,
    ModelReader,
    ProjectionError,
    ProjectionRunner,
    Schedule,
    Shadow,
    StoreUnavailableError,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel
from tests.eventsourcing.bank import Balance, Balances, DerivedBalances, account, booked, weather
from tests.eventsourcing.conftest import Stores

ADA, BOB, EVE = account(), account(), account()
BALANCES = Collection.of("balances", Balance)


@pytest.fixture
def live(stores: Stores) -> Iterator[ProjectionRunner]:
    """The live projection of two accounts, running."""
    stores.events.append([*booked(ADA, 10, 5), *booked(BOB, 3, owner="Bob")])
    runner = ProjectionRunner(
        Balances(), stores.events, stores.models, stores.bus, schedule=Schedule(poll=0.02)
    )
    runner.start()
    assert runner.wait_for(5, 5)
    yield runner
    assert runner.close(5)


def shadow_of(stores: Stores) -> Shadow:
    return Shadow(Balances(), stores.events, stores.models)


def balance(stores: Stores) -> Balance | None:
    return ModelReader(stores.models, "balances").get(Balance, ADA.id).value


def generation(stores: Stores) -> int:
    checkpoint = stores.models.checkpoint("balances")
    assert checkpoint is not None
    return checkpoint.generation


def ids(stores: Stores, generation: int | None = None) -> list[str]:
    found = stores.models.find("balances", BALANCES, Filter(), generation=generation)
    return [model.id for model in found.value]


def tamper(stores: Stores, id: str, data: str | None) -> None:
    """Write a model that no event accounts for."""
    live = stores.models.checkpoint("balances")
    assert live is not None
    known = stores.models.get("balances", BALANCES.name, id).value
    rank, position = (known.rank, known.position) if known else (5, 5)
    stores.models.commit(live, live, [StoredModel(BALANCES.name, id, rank, position, data)])


def go_on_booking(stores: Stores, stop: threading.Event) -> int:
    """Book on Ada's account until it is enough; the version that it has come to."""
    version = 3
    while not stop.wait(0.001):  # a log that grows faster than it is folded has no end
        stores.events.append(booked(ADA, 1, after=version))
        version += 1
    return version


class TestDifferences:
    def test_there_are_none_where_the_models_are_the_fold_of_the_log(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        with shadow_of(stores) as shadow:
            assert shadow.differences() == []

    def test_each_model_that_is_not_is_told(self, stores: Stores, live: ProjectionRunner) -> None:
        right = {id: stores.models.get("balances", BALANCES.name, id).value for id in ids(stores)}
        ada, bob = right[str(ADA.id)], right[str(BOB.id)]
        assert ada is not None
        assert bob is not None
        wrong = '{"owner":"Ada","balance":1000000,"bookings":2}'
        tamper(stores, str(ADA.id), wrong)
        tamper(stores, str(BOB.id), None)
        tamper(stores, str(EVE.id), wrong)

        with shadow_of(stores) as shadow:
            found = shadow.differences()

        assert sorted(found, key=lambda d: d.id) == sorted(
            [
                Difference(BALANCES.name, str(ADA.id), wrong, ada.data),
                Difference(BALANCES.name, str(BOB.id), None, bob.data),
                Difference(BALANCES.name, str(EVE.id), wrong, None),
            ],
            key=lambda d: d.id,
        )
        assert ids(stores) == [str(ADA.id), str(EVE.id)]  # to look changes nothing

    def test_what_the_live_projection_changes_meanwhile_is_no_difference(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        stop = threading.Event()

        with ThreadPoolExecutor(1) as pool:
            booking = pool.submit(go_on_booking, stores, stop)
            for _ in range(5):
                with shadow_of(stores) as shadow:
                    found = shadow.differences()
                assert found == []
            stop.set()
            booking.result()

    def test_many_models_are_compared_page_by_page(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        refs = [account() for _ in range(1100)]
        stores.events.append([event for ref in refs for event in booked(ref)])
        assert live.wait_for(1105, 10)
        tamper(stores, str(refs[700].id), None)

        with shadow_of(stores) as shadow:
            found = shadow.differences()

        assert [difference.id for difference in found] == [str(refs[700].id)]


def test_tampering_behind_the_program_s_back_is_found_and_mended(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    stores = Stores.at(f"sqlite:///{path}")
    stores.events.append([*booked(ADA, 10), *booked(BOB, 3, owner="Bob")])
    runner = ProjectionRunner(Balances(), stores.events, stores.models, stores.bus)
    runner.start()
    assert runner.wait_for(4, 5)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            "UPDATE model_balances_balance SET data = json_set(data, '$.balance', 7777)"
            " WHERE id = ?",
            (str(ADA.id),),
        )

    with shadow_of(stores) as shadow:
        found = shadow.differences()
        shadow.promote()

    assert [difference.id for difference in found] == [str(ADA.id)]
    assert balance(stores) == Balance("Ada", 10, 1)
    with closing(sqlite3.connect(path)) as raw:
        rows = raw.execute("SELECT count(*), max(generation) FROM model_balances_balance")
        assert rows.fetchone() == (2, 2)
    assert runner.close(5)
    stores.events.close()


class TestPromoting:
    def test_the_rebuilt_models_take_the_place_of_the_live_ones(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        tamper(stores, str(ADA.id), '{"owner":"Ada","balance":1000000}')

        with shadow_of(stores) as shadow:
            shadow.promote()
            assert shadow.position == 5

        assert balance(stores) == Balance("Ada", 15, 2)
        assert generation(stores) == 2
        assert ids(stores) == [str(ADA.id), str(BOB.id)]
        assert ids(stores, generation=1) == []

    def test_the_live_projection_goes_on_from_there(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        with shadow_of(stores) as shadow:
            shadow.promote()

        stores.events.append([*booked(ADA, 1, after=3), *weather(1)])

        assert live.wait_for(7, 5)
        assert balance(stores) == Balance("Ada", 16, 3)
        assert live.status().failure is None

    def test_while_events_come_no_reader_sees_anything_but_a_fold_of_the_log(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        stop = threading.Event()

        def go_on_reading() -> int:
            reader = ModelReader(stores.models, "balances")
            reads = 0
            while not stop.is_set():
                got, listed = reader.get(Balance, ADA.id), reader.find(Balance)
                assert got.value is not None
                # From position 5 on, every event books 1 on this account.
                assert got.value == Balance("Ada", 10 + got.position, got.position - 3)
                assert [k.model.owner for k in listed.value] == ["Ada", "Bob"]
                reads += 1
            return reads

        with ThreadPoolExecutor(3) as pool:
            booking = pool.submit(go_on_booking, stores, stop)
            reading = [pool.submit(go_on_reading) for _ in range(2)]
            try:
                for _ in range(5):
                    with shadow_of(stores) as shadow:
                        shadow.promote()
            finally:
                stop.set()
            version = booking.result()
            assert all(read.result() > 0 for read in reading)

        assert live.wait_for(stores.events.head(), 5)
        assert balance(stores) == Balance("Ada", 12 + version, version - 1)
        assert generation(stores) == 6

    def test_an_unfinished_shadow_is_deleted(self, stores: Stores, live: ProjectionRunner) -> None:
        def interrupted() -> None:
            with shadow_of(stores) as shadow:
                shadow.catch_up(4)
                assert ids(stores, generation=2) == [str(ADA.id), str(BOB.id)]
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()

        assert ids(stores, generation=2) == []
        assert ids(stores) == [str(ADA.id), str(BOB.id)]

    def test_one_left_behind_by_a_crash_is_deleted_by_the_next(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        shadow_of(stores).catch_up(5)

        with shadow_of(stores) as shadow:
            shadow.promote()

        assert ids(stores, generation=2) == []
        assert generation(stores) == 3

    def test_models_from_aggregates_are_rebuilt_too(self, stores: Stores) -> None:
        stores.events.append(booked(ADA, 10, 5))
        projection = DerivedBalances()
        runner = ProjectionRunner(projection, stores.events, stores.models, stores.bus)
        runner.start()
        assert runner.wait_for(3, 5)

        with Shadow(projection, stores.events, stores.models) as shadow:
            assert shadow.differences() == []
            shadow.promote()

        assert runner.close(5)
        reader = ModelReader(stores.models, "derived_balances")
        assert reader.get(Balance, ADA.id).value == Balance("Ada", 15, 2)

    def test_progress_is_told(self, stores: Stores, live: ProjectionRunner) -> None:
        stores.events.append(booked(EVE, *[1] * 1200))
        told: list[tuple[int, int]] = []

        with shadow_of(stores) as shadow:
            shadow.catch_up(1206, lambda position, to: told.append((position, to)))

        assert told == [(500, 1206), (1000, 1206), (1206, 1206)]


class TestOneAtATime:
    def test_a_later_shadow_takes_the_place_of_an_earlier(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        with shadow_of(stores) as earlier:
            earlier.catch_up(2)
            with shadow_of(stores) as later:
                with pytest.raises(CheckpointMovedError):
                    earlier.catch_up(5)
                later.promote()

        assert generation(stores) == 3
        assert balance(stores) == Balance("Ada", 15, 2)

    def test_an_earlier_one_that_is_ready_is_not_promoted_either(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        with shadow_of(stores) as earlier:
            earlier.catch_up(5)
            with shadow_of(stores) as later:
                with pytest.raises(CheckpointMovedError):
                    earlier.promote()
                later.catch_up(5)

        assert generation(stores) == 1
        assert balance(stores) == Balance("Ada", 15, 2)

    def test_the_end_of_an_earlier_one_leaves_the_later_whole(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        with shadow_of(stores) as earlier:
            earlier.catch_up(5)
            later = shadow_of(stores)
            later.catch_up(5)

        with later:
            assert later.differences() == []
            later.promote()

        assert balance(stores) == Balance("Ada", 15, 2)

    def test_the_end_of_a_later_one_leaves_what_the_earlier_promoted_before(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        with shadow_of(stores) as earlier:
            earlier.promote()
            with shadow_of(stores) as later:
                later.catch_up(3)

        assert balance(stores) == Balance("Ada", 15, 2)
        assert ids(stores, generation=3) == []

    def test_many_at_once_leave_whole_models(self, stores: Stores, live: ProjectionRunner) -> None:
        def rebuild(_: int) -> bool:
            try:
                with shadow_of(stores) as shadow:
                    shadow.promote()
            except CheckpointMovedError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            promoted = list(pool.map(rebuild, range(12)))

        assert any(promoted)
        assert balance(stores) == Balance("Ada", 15, 2)
        assert ids(stores) == [str(ADA.id), str(BOB.id)]

    def test_a_program_with_other_code_ends_a_shadow(
        self, stores: Stores, live: ProjectionRunner
    ) -> None:
        class Revised(Balances):
            version = 2

        live.close(5)
        with shadow_of(stores) as shadow:
            shadow.catch_up(5)
            updated = ProjectionRunner(Revised(), stores.events, stores.models, stores.bus)
            updated.start()
            assert updated.wait_for(5, 5)

            with pytest.raises(CheckpointMovedError):
                shadow.promote()

        assert updated.close(5)
        checkpoint = stores.models.checkpoint("balances")
        assert checkpoint is not None
        assert checkpoint.shape == Revised().shape
        assert balance(stores) == Balance("Ada", 15, 2)


def test_there_is_no_shadow_of_what_never_ran(stores: Stores) -> None:
    with pytest.raises(ProjectionError, match="balances has no models yet"):
        shadow_of(stores)


class ForgetfulModelStore(MemoryModelStore):
    """Loses the answer to the commit that changes the live generation."""

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        super().commit(expected, checkpoint, models)
        if expected is not None and checkpoint.projection == "balances" and not models:
            raise StoreUnavailableError("the connection was lost")


def test_models_whose_promotion_is_in_doubt_are_not_deleted(memory_stores: Stores) -> None:
    models = ForgetfulModelStore()
    stores = Stores(memory_stores.events, models, memory_stores.snapshots, memory_stores.bus)
    stores.events.append(booked(ADA, 10))
    runner = ProjectionRunner(Balances(), stores.events, models, stores.bus)
    runner.start()
    assert runner.wait_for(2, 5)
    assert runner.close(5)

    with shadow_of(stores) as shadow, pytest.raises(StoreUnavailableError):
        shadow.promote()

    assert generation(stores) == 2
    assert balance(stores) == Balance("Ada", 10, 1)
