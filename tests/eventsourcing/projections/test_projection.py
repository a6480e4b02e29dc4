"""What projections make of events, folded without threads. How they are run: test_runner.py."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from shop.eventsourcing import (
    AggregateProjection,
    Aggregates,
    CheckpointMovedError,
    Event,
    EventData,
    FollowerError,
    ModelReader,
    ModelSession,
    Projection,
    ProjectionError,
    ReadModel,
    Repository,
    StoreUnavailableError,
    handles,
)
from shop.eventsourcing.following.follower import Progress
from shop.eventsourcing.models.model_store import Checkpoint
from shop.eventsourcing.projections.fold import Fold
from tests.eventsourcing.bank import (
    Account,
    Balance,
    Balances,
    Deposited,
    DerivedBalances,
    Limit,
    Opened,
    Withdrawn,
    account,
    booked,
    weather,
)
from tests.eventsourcing.conftest import Stores

ADA, BOB = account(), account()


def begin(stores: Stores, projection: Projection) -> Progress:
    """The checkpoint of a projection that has seen nothing."""
    stores.models.prepare(projection.collections)
    checkpoint = Checkpoint(projection.name, 1, 0, projection.shape, uuid4())
    stores.models.commit(None, checkpoint)
    return Progress(checkpoint, 0)


def fold_all(stores: Stores, projection: Projection, *, batch: int = 500) -> Progress:
    fold = Fold(projection, stores.events, stores.models, batch=batch)
    progress, head = begin(stores, projection), stores.events.head()
    while progress.position < head:
        progress = fold.advance(progress, head)
    return progress


def balances(stores: Stores, projection: str = "balances") -> dict[UUID, Balance]:
    reader = ModelReader(stores.models, projection)
    found = ((ref.id, reader.get(Balance, ref.id).value) for ref in (ADA, BOB))
    return {id: model for id, model in found if model is not None}


def some_history(stores: Stores) -> None:
    """Bookings of two accounts, interleaved, and the weather."""
    stores.events.append([*booked(ADA, 10), *booked(BOB, owner="Bob"), *weather(3)])
    for version in range(2, 30):
        stores.events.append(
            [
                Event.new(ADA, version=version + 1, data=Withdrawn(version)),
                *booked(BOB, version, after=version - 1),
            ]
        )
    stores.events.append(weather(2))


class TestEventByEvent:
    def test_each_handler_changes_the_models_of_its_event(self, stores: Stores) -> None:
        stores.events.append([*booked(ADA, 10, 5), *booked(BOB, 3, owner="Bob")])

        fold_all(stores, Balances())

        assert balances(stores) == {ADA.id: Balance("Ada", 15, 2), BOB.id: Balance("Bob", 3, 1)}

    def test_events_are_handled_in_order(self, stores: Stores) -> None:
        seen: list[int] = []

        class Watching(Balances):
            def apply(
                self, event: Event[EventData], models: ModelSession, past: Aggregates
            ) -> None:
                seen.append(event.position)
                super().apply(event, models, past)

        some_history(stores)
        fold_all(stores, Watching(), batch=7)

        assert seen == sorted(set(seen))
        assert len(seen) == 59

    def test_one_method_may_handle_several_events(self, stores: Stores) -> None:
        class Counted(ReadModel, frozen=True):
            number: int = 0

        class Counting(Projection):
            name = "counting"
            models = (Counted,)

            @handles(Opened, Deposited)
            def count(self, event: Event[EventData], models: ModelSession) -> None:
                known = models.get(Counted, "all") or Counted()
                models.put("all", Counted(known.number + 1))

        some_history(stores)
        fold_all(stores, Counting())

        assert ModelReader(stores.models, "counting").get(Counted, "all").value == Counted(31)

    def test_a_subclass_handles_what_its_base_does_and_may_do_it_otherwise(
        self, stores: Stores
    ) -> None:
        class Generous(Balances):
            @handles(Deposited)
            def doubled(self, event: Event[Deposited], models: ModelSession) -> None:
                self._book(event.aggregate, 2 * event.data.amount, models)

        stores.events.append(booked(ADA, 10))
        fold_all(stores, Generous())

        assert balances(stores) == {ADA.id: Balance("Ada", 20, 1)}
        assert Generous().event_names == Balances().event_names


class TestFromAggregates:
    @pytest.mark.parametrize("batch", [1, 7, 500])
    def test_the_models_are_those_of_event_by_event(self, stores: Stores, batch: int) -> None:
        some_history(stores)

        fold_all(stores, Balances(), batch=batch)
        fold_all(stores, DerivedBalances(), batch=batch)

        assert balances(stores, "derived_balances") == balances(stores)
        assert len(balances(stores)) == 2

    def test_a_model_is_derived_once_a_batch(self, stores: Stores) -> None:
        derived: list[UUID] = []

        class Watching(DerivedBalances):
            def project(self, id: UUID, account: Account) -> Balance:
                derived.append(id)
                return super().project(id, account)

        some_history(stores)
        fold_all(stores, Watching())

        assert sorted(derived) == sorted([ADA.id, BOB.id])

    def test_aggregates_are_shown_as_they_stood_at_the_event(self, stores: Stores) -> None:
        """A later event, which another batch will bring, is not in the model before its time."""
        stores.events.append(booked(ADA, 10, 20, 30))
        projection = DerivedBalances()
        fold = Fold(projection, stores.events, stores.models, batch=2)

        fold.advance(begin(stores, projection), 4)

        assert balances(stores, "derived_balances") == {ADA.id: Balance("Ada", 10, 1)}

    def test_none_deletes_the_model(self, stores: Stores) -> None:
        class SolventOnly(AggregateProjection):
            name = "solvent"
            models = (Balance,)
            aggregates = (Account,)

            def project(self, id: UUID, account: Account) -> Balance | None:
                return Balance(account.owner, account.balance) if account.balance else None

        stores.events.append([*booked(ADA, 10), *booked(BOB, 10, owner="Bob")])
        stores.events.append([Event.new(ADA, version=3, data=Withdrawn(10))])
        fold_all(stores, SolventOnly(), batch=1)

        assert list(balances(stores, "solvent")) == [BOB.id]

    def test_a_model_may_come_from_several_aggregates_of_one_id(self, stores: Stores) -> None:
        class Limited(ReadModel, frozen=True):
            balance: int
            limit: int

        class LimitedBalances(AggregateProjection):
            name = "limited"
            models = (Limited,)
            aggregates = (Account, Limit)

            def project(self, id: UUID, account: Account, limit: Limit) -> Limited:
                return Limited(account.balance, limit.amount)

        aggregates = Aggregates(stores.events)
        stores.events.append([*booked(ADA, 10), *booked(BOB, 10)])
        Repository(aggregates, Limit).use(ADA.id, lambda limit: limit.set(3))
        fold_all(stores, LimitedBalances())

        reader = ModelReader(stores.models, "limited")
        assert reader.get(Limited, ADA.id).value == Limited(10, 3)
        assert reader.get(Limited, BOB.id).value == Limited(10, 1_000_000)


class TestFold:
    def test_models_and_checkpoint_move_together(self, stores: Stores) -> None:
        stores.events.append([*booked(ADA, 10), *weather(2)])

        progress = fold_all(stores, Balances())

        found = ModelReader(stores.models, "balances").get(Balance, ADA.id)
        assert found.position == progress.position == progress.committed.position == 4
        assert stores.models.checkpoint("balances") == progress.committed

    def test_where_the_checkpoint_was_moved_no_model_is_written(self, stores: Stores) -> None:
        stores.events.append(booked(ADA, 10))
        projection = Balances()
        fold = Fold(projection, stores.events, stores.models)
        begun = begin(stores, projection)
        fold.advance(begun, 1)

        with pytest.raises(CheckpointMovedError):
            fold.advance(begun, 2)

        assert balances(stores) == {ADA.id: Balance("Ada", 0)}

    def test_it_goes_batch_by_batch(self, stores: Stores) -> None:
        stores.events.append(booked(ADA, *[1] * 9))
        projection = Balances()
        fold = Fold(projection, stores.events, stores.models, batch=4)

        first = fold.advance(begin(stores, projection), 10)
        second = fold.advance(first, 10)
        third = fold.advance(second, 10)

        assert [p.committed.position for p in (first, second, third)] == [4, 8, 10]

    def test_it_goes_no_further_than_it_is_told(self, stores: Stores) -> None:
        stores.events.append(booked(ADA, *[1] * 9))
        projection = Balances()

        progress = Fold(projection, stores.events, stores.models).advance(
            begin(stores, projection), 5
        )

        assert progress.position == 5
        assert balances(stores) == {ADA.id: Balance("Ada", 4, 4)}

    def test_what_concerns_nobody_moves_the_position_and_writes_nothing(
        self, stores: Stores
    ) -> None:
        stores.events.append(weather(5))
        projection = Balances()
        begun = begin(stores, projection)

        progress = Fold(projection, stores.events, stores.models).advance(begun, 5)

        assert progress == Progress(begun.committed, 5)
        assert stores.models.checkpoint("balances") == begun.committed

    @pytest.mark.parametrize("derived", [False, True], ids=["event-by-event", "from-aggregates"])
    def test_a_failing_handler_keeps_what_came_before_and_writes_nothing_after(
        self, stores: Stores, derived: bool
    ) -> None:
        stores.events.append([*booked(ADA, 10), *booked(BOB, 3), *booked(ADA, 7, after=2)])
        bad = 4  # Bob's deposit

        class Brittle(Balances):
            def apply(
                self, event: Event[EventData], models: ModelSession, past: Aggregates
            ) -> None:
                if event.position == bad:
                    raise ZeroDivisionError("bad event")
                super().apply(event, models, past)

        class BrittleDerived(DerivedBalances):
            def apply(
                self, event: Event[EventData], models: ModelSession, past: Aggregates
            ) -> None:
                if event.position == bad:
                    raise ZeroDivisionError("bad event")
                super().apply(event, models, past)

        projection = BrittleDerived() if derived else Brittle()
        with pytest.raises(FollowerError) as failure:
            fold_all(stores, projection)

        assert failure.value.event.position == bad
        assert isinstance(failure.value.__cause__, ZeroDivisionError)
        assert failure.value.progress.position == bad - 1
        assert stores.models.checkpoint(projection.name) == failure.value.progress.committed
        assert balances(stores, projection.name) == {
            ADA.id: Balance("Ada", 10, 1),
            BOB.id: Balance("Ada", 0),
        }

    def test_a_store_that_fails_is_not_the_event_s_fault(self, stores: Stores) -> None:
        class Unlucky(Balances):
            def apply(
                self, event: Event[EventData], models: ModelSession, past: Aggregates
            ) -> None:
                raise StoreUnavailableError("gone")

        stores.events.append(booked(ADA))

        with pytest.raises(StoreUnavailableError):
            fold_all(stores, Unlucky())

    def test_a_base_of_others_needs_none_of_these(self, stores: Stores) -> None:
        class OfAccounts(Projection):
            @handles(Opened)
            def opened(self, event: Event[Opened], models: ModelSession) -> None:
                models.put(event.aggregate.id, Balance(event.data.owner, 0))

        class Owners(OfAccounts):
            name = "owners"
            models = (Balance,)

        stores.events.append(booked(ADA))
        fold_all(stores, Owners())

        assert balances(stores, "owners") == {ADA.id: Balance("Ada", 0)}

    def test_a_model_of_a_class_that_was_not_declared(self, stores: Stores) -> None:
        class Stray(ReadModel, frozen=True):
            pass

        class Straying(Balances):
            @handles(Opened)
            def opened(self, event: Event[Opened], models: ModelSession) -> None:
                models.put(event.aggregate.id, Stray())

        stores.events.append(booked(ADA))
        with pytest.raises(
            FollowerError, match="Stray is not among the models of balances"
        ) as failure:
            fold_all(stores, Straying())

        assert isinstance(failure.value.__cause__, ProjectionError)
