"""Several owners of one projection, one after the other or at once, and models built anew."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.backends.memory import MemoryEventBus
from shop.eventsourcing import (
    Event,
    EventStore,
    Filter,
    FollowerState,
    ModelReader,
    ModelStore,
    Projection,
    ProjectionRunner,
    Schedule,
    handles,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, StoredModel
from shop.eventsourcing.models.session import ModelSession
from tests.conftest import Eventually
from tests.eventsourcing.bank import Account, Balance, Balances, Opened, account, booked
from tests.eventsourcing.conftest import OpenShared, Stores
from tests.eventsourcing.counting import CountingStore

ADA, BOB = account(), account()
ROOT = Path(__file__).parents[3]
DYING_PROJECTOR = "tests.eventsourcing.dying_projector"
HASTY = Schedule(poll=0.01)
BALANCES = Collection.of("balances", Balance)


def fold_of(log: EventStore) -> dict[str, Balance]:
    """What the models must be, by the aggregates' own replay."""
    accounts: dict[UUID, Account] = {}
    for event in log.read():
        accounts.setdefault(event.aggregate.id, Account(event.aggregate.id)).replay(event)
    return {
        str(id): Balance(account.owner, account.balance, account.version - 1)
        for id, account in accounts.items()
    }


def models_of(models: ModelStore, generation: int | None = None) -> dict[str, Balance]:
    found = models.find("balances", BALANCES, Filter(limit=1000), generation=generation).value
    return {m.id: msgspec.json.decode(m.data or "", type=Balance) for m in found}


def runner(
    stores: Stores, projection: Projection | None = None, schedule: Schedule = HASTY
) -> ProjectionRunner:
    return ProjectionRunner(
        projection or Balances(), stores.events, stores.models, stores.bus, schedule=schedule
    )


class Revised(Balances):
    """As a later program has it."""

    version = 2

    @handles(Opened)
    def opened(self, event: Event[Opened], models: ModelSession) -> None:
        models.put(event.aggregate.id, Balance(event.data.owner.upper(), 0))


class TestTwoOwners:
    def test_two_runners_count_every_event_once(self, stores: Stores) -> None:
        two = [runner(stores), runner(stores)]
        for one in two:
            one.start()
        stores.events.append(booked(ADA))
        for version in range(1, 200):
            stores.events.append(booked(ADA, 1, after=version))

        assert all(one.wait_for(200, 10) for one in two)
        assert all(one.close(5) for one in two)
        assert models_of(stores.models) == {str(ADA.id): Balance("Ada", 199, 199)}

    def test_so_they_do_from_two_processes(self, open_shared: OpenShared) -> None:
        here, there = open_shared(), open_shared()
        two = [runner(here), runner(there)]
        for one in two:
            one.start()
        for version in range(100):
            writer = here if version % 2 else there
            writer.events.append(booked(ADA, *([1] if version else []), after=version))

        assert all(one.wait_for(100, 10) for one in two)
        assert all(one.close(5) for one in two)
        assert models_of(here.models) == {str(ADA.id): Balance("Ada", 99, 99)}

    def test_a_handler_that_met_the_other_s_models_has_not_failed(
        self, stores: Stores, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One falls behind, and handles events that the other has handled already."""

        class Strict(Balances):
            @handles(Opened)
            def opened(self, event: Event[Opened], models: ModelSession) -> None:
                assert models.get(Balance, event.aggregate.id) is None
                super().opened(event, models)

        bell = MemoryEventBus()
        slow = ProjectionRunner(
            Strict(),
            stores.events,
            stores.models,
            bell,
            schedule=Schedule(poll=60.0),
        )
        slow.start()
        eventually(lambda: slow.status().current)
        quick = runner(stores, Strict())
        quick.start()
        stores.events.append(booked(ADA, 5))
        assert quick.wait_for(2, 5)

        bell.publish(list(stores.events.read()))

        assert slow.wait_for(2, 5)
        stores.events.append(booked(BOB, 5))
        assert slow.wait_for(4, 5)
        assert slow.close(5)
        assert quick.close(5)
        assert "failed" not in caplog.text
        assert models_of(stores.models) == fold_of(stores.events)


@pytest.mark.parametrize("moment", ["in-a-handler", "before-a-commit", "after-a-commit"])
def test_after_a_sudden_death_the_models_are_the_fold_of_the_log(
    durable_url: str, moment: str
) -> None:
    stores = Stores.at(durable_url)
    with stores.events:
        refs = [account() for _ in range(5)]
        for ref in refs:
            stores.events.append(booked(ref, 1))
        for version in range(2, 20):
            stores.events.append([e for ref in refs for e in booked(ref, version, after=version)])

        for position in ("37", "55"):
            ended = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    DYING_PROJECTOR,
                    durable_url,
                    moment,
                    position,
                ],
                cwd=ROOT,
                timeout=30,
                check=False,
            )
            assert ended.returncode == -signal.SIGKILL
            reached = ModelReader(stores.models, "balances").position()
            assert reached == {"37": 30, "55": 50}[position] + 10 * (moment == "after-a-commit")

        restarted = runner(stores)
        restarted.start()
        assert restarted.wait_for(100, 10)
        assert restarted.close(5)
        assert models_of(stores.models) == fold_of(stores.events)


class TestBuiltAnew:
    def test_where_the_code_has_changed(
        self, stores: Stores, caplog: pytest.LogCaptureFixture
    ) -> None:
        stores.events.append(booked(ADA, 10))
        before = runner(stores)
        before.start()
        assert before.wait_for(2, 5)
        assert before.close(5)

        after = runner(stores, Revised())
        after.start()

        assert after.wait_for(2, 5)
        assert after.close(5)
        assert models_of(stores.models) == {str(ADA.id): Balance("ADA", 10, 1)}
        assert models_of(stores.models, generation=1) == {}
        assert "projection balances begins anew: its code has changed" in caplog.text

    def test_where_the_event_store_is_another_one(
        self, stores: Stores, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = Stores.at("memory://")
        other.events.append(booked(BOB, 1, 2, 3))
        before = ProjectionRunner(Balances(), other.events, stores.models, other.bus)
        before.start()
        assert before.wait_for(4, 5)
        assert before.close(5)
        stores.events.append(booked(ADA, *[1] * 9))

        after = runner(stores)
        after.start()

        assert after.wait_for(10, 5)
        assert after.close(5)
        assert models_of(stores.models) == {str(ADA.id): Balance("Ada", 9, 9)}
        assert "it belongs to another event store" in caplog.text

    def test_where_the_checkpoint_is_ahead_of_the_event_store(
        self, stores: Stores, caplog: pytest.LogCaptureFixture
    ) -> None:
        """So it is after the event store was restored from a backup."""
        stores.events.append(booked(ADA, 10))
        identity = stores.events.info().identity
        ahead = Checkpoint("balances", 1, 99, Balances().shape, identity)
        lost = StoredModel(BALANCES.name, str(BOB.id), 98, 99, '{"owner":"Bob","balance":5}')
        stores.models.prepare([BALANCES])
        stores.models.commit(None, ahead, [lost])

        restored = runner(stores)
        restored.start()

        assert restored.wait_for(2, 5)
        assert restored.close(5)
        assert models_of(stores.models) == fold_of(stores.events)
        assert "it is ahead of the event store, at 99" in caplog.text

    def test_but_not_again_by_a_program_that_it_was_taken_over_from(
        self, stores: Stores, eventually: Eventually
    ) -> None:
        """Old and new programs that run side by side do not undo each other's work."""
        stores.events.append(booked(ADA, 10))
        old = runner(stores)
        old.start()
        eventually(lambda: old.status().current)
        new = runner(stores, Revised())
        new.start()
        eventually(lambda: new.status().current)

        eventually(lambda: old.status().state is FollowerState.FAILED)

        failure = old.status().failure
        assert failure is not None
        assert "balances was taken over by another program: its code has changed" in failure.error
        assert old.position == 0  # it answers for no models that it did not make
        assert new.status().state is FollowerState.RUNNING
        assert old.close(5)
        assert new.close(5)
        assert models_of(stores.models) == {str(ADA.id): Balance("ADA", 10, 1)}

    def test_but_not_where_another_process_went_on_while_this_one_began(
        self, stores: Stores, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = runner(stores)
        other.start()

        class Overtaken(CountingStore):
            def head(self) -> int:
                head = super().head()
                if head == 0:
                    stores.events.append(booked(ADA, 10))
                    assert other.wait_for(2, 5)
                return head

        slow = ProjectionRunner(Balances(), Overtaken(stores.events), stores.models, stores.bus)
        slow.start()

        assert slow.wait_for(2, 5)
        assert slow.close(5)
        assert other.close(5)
        assert "anew" not in caplog.text
        checkpoint = stores.models.checkpoint("balances")
        assert checkpoint is not None
        assert checkpoint.generation == 1

    def test_in_a_generation_of_their_own(self, stores: Stores) -> None:
        """Whatever generation somebody else is building beside the live one."""
        stores.models.prepare([BALANCES])
        identity = uuid4()
        stores.models.commit(None, Checkpoint("balances", 1, 9, "old", identity))
        beside = Checkpoint("balances~shadow", 2, 9, "old", identity)
        half_built = StoredModel(BALANCES.name, str(BOB.id), 8, 9, '{"owner":"Bob","balance":5}')
        stores.models.commit(None, beside, [half_built])
        stores.events.append(booked(ADA, 10))

        updated = runner(stores)
        updated.start()

        assert updated.wait_for(2, 5)
        assert updated.close(5)
        assert models_of(stores.models) == fold_of(stores.events)
