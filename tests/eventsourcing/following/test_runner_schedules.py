"""When a projection runs: debounced, periodically, or because somebody waits for it."""

from __future__ import annotations

from shop.eventsourcing import (
    ModelReader,
    Schedule,
)
from shop.eventsourcing.events.event import AggregateRef
from tests.conftest import Eventually
from tests.eventsourcing.bank import (
    Balance,
    Balances,
    account,
    booked,
)
from tests.eventsourcing.conftest import Run, Stores
from tests.eventsourcing.counting import CountingStore

ADA = account()


def balance(stores: Stores, ref: AggregateRef = ADA) -> Balance | None:
    return ModelReader(stores.models, "balances").get(Balance, ref.id).value


class TestSchedules:
    def test_debounce_waits_until_no_event_came_for_so_long(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        events = CountingStore(stores.events)
        runner = run(events=events, schedule=Schedule(poll=60.0, debounce=0.2))
        eventually(lambda: runner.status().current)
        stores.events.append(booked(ADA))
        version, reads = 1, events.reads

        for _ in range(20):
            stores.events.append(booked(ADA, 1, after=version))
            version += 1

        eventually(lambda: balance(stores) == Balance("Ada", 20, 20))
        assert events.reads == reads + 1

    def test_debounce_waits_no_longer_than_ten_times_that_long(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        runner = run(schedule=Schedule(poll=60.0, debounce=0.05))
        eventually(lambda: runner.status().current)
        version = 0

        def still_booking() -> bool:
            nonlocal version
            stores.events.append(booked(ADA, *([1] if version else []), after=version))
            version += 1
            return balance(stores) is not None

        eventually(still_booking)

    def test_waiting_for_a_position_does_not_wait_for_the_schedule(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        runner = run(schedule=Schedule(every=60.0))
        eventually(lambda: runner.status().current)
        stores.events.append(booked(ADA, 10))

        assert runner.wait_for(2, 5)

    def test_periodically_means_whatever_the_bus_says(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        seldom = run(schedule=Schedule(every=60.0))
        eventually(lambda: seldom.status().current)

        class Other(Balances):
            name = "other"

        often = run(Other(), schedule=Schedule(every=0.05))
        stores.events.append(booked(ADA, 10))
        eventually(lambda: often.position == 2)

        assert seldom.position == 0
        assert balance(stores) is None
