"""Projections in their threads. Several processes and crashes: test_runner_takeover.py."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from shop.backends.memory import MemoryEventBus
from shop.eventsourcing import (
    Event,
    FollowerState,
    ModelReader,
    Query,
    Schedule,
    handles,
)
from shop.eventsourcing.events.event import AggregateRef
from shop.eventsourcing.models.session import ModelSession
from tests.conftest import Eventually
from tests.eventsourcing.bank import (
    Balance,
    Balances,
    Deposited,
    account,
    booked,
    weather,
)
from tests.eventsourcing.conftest import Run, Stores
from tests.eventsourcing.counting import CountingStore

ADA, BOB = account(), account()

PATIENT = Schedule(poll=60.0)
"""So that only the bus makes it run within a test's time."""


def balance(stores: Stores, ref: AggregateRef = ADA) -> Balance | None:
    return ModelReader(stores.models, "balances").get(Balance, ref.id).value


class Brittle(Balances):
    """Fails on deposits until it is mended."""

    def __init__(self) -> None:
        self.mended = threading.Event()
        self.attempts = 0

    @handles(Deposited)
    def deposited(self, event: Event[Deposited], models: ModelSession) -> None:
        self.attempts += 1
        if not self.mended.is_set():
            raise ZeroDivisionError("cannot")
        super().deposited(event, models)


class Held(Balances):
    """Waits at each deposit until it is released."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()

    @handles(Deposited)
    def deposited(self, event: Event[Deposited], models: ModelSession) -> None:
        self.reached.set()
        assert self.released.wait(20)
        super().deposited(event, models)


class TestFollowing:
    def test_it_catches_up_with_the_log_and_then_follows_it(self, stores: Stores, run: Run) -> None:
        stores.events.append(booked(ADA, 10))
        runner = run(schedule=PATIENT)
        assert runner.wait_for(2, 5)
        assert balance(stores) == Balance("Ada", 10, 1)

        stores.events.append(booked(ADA, 5, after=2))

        assert runner.wait_for(3, 5)
        assert balance(stores) == Balance("Ada", 15, 2)
        assert runner.position == 3

    def test_the_bus_alone_makes_it_run(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        runner = run(schedule=PATIENT)
        eventually(lambda: runner.status().current)

        stores.events.append(booked(ADA, 10))

        eventually(lambda: balance(stores) == Balance("Ada", 10, 1))

    def test_it_goes_on_where_it_stopped(self, stores: Stores, run: Run) -> None:
        stores.events.append(booked(ADA, 10))
        before = run()
        before.wait_for(2, 5)
        before.close(5)
        stores.events.append(booked(ADA, 5, after=2))

        assert run().wait_for(3, 5)

        assert balance(stores) == Balance("Ada", 15, 2)

    def test_an_event_that_the_bus_lost_is_found_by_the_next_poll(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        deaf = MemoryEventBus()
        runner = run(bus=deaf, schedule=Schedule(poll=0.05))
        eventually(lambda: runner.status().current)

        stores.events.append(booked(ADA, 10))

        eventually(lambda: balance(stores) == Balance("Ada", 10, 1))

    def test_what_concerns_nobody_moves_the_position_without_a_look_into_the_store(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        stores.events.append(booked(ADA, 10))
        events = CountingStore(stores.events)
        runner = run(events=events, schedule=PATIENT)
        eventually(lambda: runner.status().current)
        reads = events.reads

        stores.events.append(weather(5))
        eventually(lambda: runner.position == 7)

        assert events.reads == reads
        stores.events.append(booked(ADA, 5, after=2))
        assert runner.wait_for(8, 5)
        assert balance(stores) == Balance("Ada", 15, 2)

    def test_where_the_log_ends_is_not_asked_for_what_this_process_stored(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        events = CountingStore(stores.events)
        runner = run(events=events, schedule=PATIENT)
        eventually(lambda: runner.status().current)
        asked = events.heads

        stores.events.append([*booked(ADA, 10), *weather(1)])

        eventually(lambda: runner.position == 3)
        assert balance(stores) == Balance("Ada", 10, 1)
        assert events.heads == asked

    def test_whoever_waits_has_the_store_asked_whatever_the_bus_told(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        bus = MemoryEventBus()
        runner = run(bus=bus, schedule=Schedule(poll=60.0, pace=60.0))
        eventually(lambda: runner.status().current)
        first, *others = booked(ADA, 10, 5)
        stores.events.append([first, *others])
        bus.publish([first.at(1)])

        assert runner.wait_for(3, 5)
        assert balance(stores) == Balance("Ada", 15, 2)

    def test_what_found_its_queue_full_is_looked_for_as_soon_as_that_is_emptied(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        held = Held()
        runner = run(held, schedule=PATIENT)
        stores.events.append(booked(ADA, 10))
        assert held.reached.wait(5)
        stores.events.append(weather(1500))
        stores.events.append(booked(ADA, 5, after=2))
        held.released.set()
        eventually(lambda: runner.position == 1503)
        assert balance(stores) == Balance("Ada", 15, 2)

    def test_every_poll_asks_the_store_whatever_was_passed_over_meanwhile(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        events = CountingStore(stores.events)
        runner = run(events=events, schedule=Schedule(poll=0.05))
        eventually(lambda: runner.status().current)
        asked = events.heads

        def asked_among_many() -> bool:
            stores.events.append(weather(1))
            return events.heads > asked + 1

        eventually(asked_among_many)

    def test_what_concerns_nobody_is_noted_in_the_checkpoint_now_and_then(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        run(schedule=Schedule(poll=0.05))
        stores.events.append(weather(5))

        eventually(lambda: ModelReader(stores.models, "balances").position() == 5)

    def test_a_bus_that_lost_some_events_leaves_no_hole(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        """News of position 4 after news of 1 is no reason to pass over 2 and 3."""
        bus = MemoryEventBus()
        runner = run(bus=bus, schedule=PATIENT)
        eventually(lambda: runner.status().current)
        forecast = weather(2)
        stores.events.append([forecast[0], *booked(ADA, 10), forecast[1]])

        bus.publish([forecast[0].at(1)])
        eventually(lambda: runner.position == 1)
        bus.publish([forecast[1].at(4)])

        eventually(lambda: runner.position == 4)
        assert balance(stores) == Balance("Ada", 10, 1)

    def test_several_projections_run_side_by_side(self, stores: Stores, run: Run) -> None:
        class Other(Balances):
            name = "other"

        runners = [run(), run(Other())]
        stores.events.append(booked(ADA, *[1] * 700))

        assert all(runner.wait_for(701, 10) for runner in runners)
        other = ModelReader(stores.models, "other").get(Balance, ADA.id).value
        assert other == balance(stores) == Balance("Ada", 700, 700)


class TestFailing:
    def test_it_stops_before_the_event_and_tells(
        self, stores: Stores, run: Run, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        stores.events.append([*booked(ADA), *weather(1), *booked(BOB, 3, owner="Bob")])
        runner = run(Brittle())
        eventually(lambda: "balances failed" in caplog.text)

        status = runner.status()
        [bad] = stores.events.read(Query(after=3, to=4))
        assert (status.state, status.position) == (FollowerState.FAILED, 3)
        assert status.failure is not None
        assert status.failure.error == "ZeroDivisionError: cannot"
        assert status.failure.position == 4
        assert (status.failure.event_id, status.failure.event_name) == (bad.id, bad.name)
        assert status.name == "balances"
        assert f"balances failed on event {bad.id}" in caplog.text
        assert balance(stores) == Balance("Ada", 0)
        assert balance(stores, BOB) == Balance("Bob", 0)

    def test_it_tries_again_and_recovers_when_mended(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        brittle = Brittle()
        stores.events.append(booked(ADA, 10))
        runner = run(brittle)
        eventually(lambda: brittle.attempts >= 3)
        failure = runner.status().failure

        brittle.mended.set()

        assert runner.wait_for(2, 5)
        eventually(lambda: runner.status().state is FollowerState.RUNNING)
        assert runner.status().failure is None
        assert balance(stores) == Balance("Ada", 10, 1)
        assert failure is not None
        assert failure.attempts >= 2

    def test_those_who_wait_for_it_do_not_hurry_it(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        brittle = Brittle()
        stores.events.append(booked(ADA, 10))
        runner = run(brittle)
        eventually(lambda: brittle.attempts >= 3)
        eventually(lambda: runner.status().failure)

        for _ in range(50):
            assert not runner.wait_for(2, 0.001)

        assert brittle.attempts < 10

    def test_resume_tries_again_at_once(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        brittle = Brittle()
        stores.events.append(booked(ADA, 10))
        runner = run(brittle)

        def tried(times: int) -> Callable[[], bool]:
            return lambda: brittle.attempts >= times

        for times in range(1, 12):  # with backoff alone, so many would take minutes
            eventually(tried(times))
            runner.resume()

        brittle.mended.set()
        runner.resume()

        assert runner.wait_for(2, 5)

    def test_the_others_go_on(self, stores: Stores, run: Run, eventually: Eventually) -> None:
        class BrittleToo(Brittle):
            name = "brittle"

        failing, well = run(BrittleToo()), run()
        stores.events.append(booked(ADA, 10))
        eventually(lambda: failing.status().failure)

        stores.events.append(booked(ADA, 5, after=2))

        assert well.wait_for(3, 5)
        assert balance(stores) == Balance("Ada", 15, 2)
        assert not failing.wait_for(2, 0.05)

    def test_it_skips_nothing_however_many_events_come_meanwhile(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        brittle = Brittle()
        runner = run(brittle)
        stores.events.append(booked(ADA, 10))
        eventually(lambda: brittle.attempts >= 1)
        stores.events.append(weather(2000))
        stores.events.append(booked(ADA, 5, after=2))

        brittle.mended.set()
        runner.resume()

        assert runner.wait_for(2003, 5)
        assert balance(stores) == Balance("Ada", 15, 2)

    def test_a_store_that_fails_has_no_event_to_blame(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        runner = run()
        eventually(lambda: runner.status().current)

        stores.events.close()
        runner.resume()

        eventually(lambda: runner.status().failure)
        failure = runner.status().failure
        assert failure is not None
        assert "StoreClosedError" in failure.error
        assert failure.position is None


class TestControl:
    def test_a_paused_projection_leaves_its_models_and_goes_on_when_resumed(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        runner = run()
        eventually(lambda: runner.status().current)
        runner.pause()
        assert runner.status().state is FollowerState.PAUSED

        stores.events.append(weather(1))
        assert not runner.wait_for(1, 0.1)
        stores.events.append(booked(ADA, 10))
        assert not runner.wait_for(1, 0.1)
        assert balance(stores) is None

        runner.resume()
        assert runner.wait_for(3, 5)
        assert balance(stores) == Balance("Ada", 10, 1)

    def test_waiting_ends_at_once_where_the_position_is_reached(
        self, stores: Stores, run: Run
    ) -> None:
        stores.events.append(booked(ADA, 10))
        runner = run()

        assert runner.wait_for(0, 0)
        assert runner.wait_for(2, 5)
        assert runner.wait_for(1, 0)

    def test_waiting_for_what_does_not_come_ends_in_time(self, run: Run) -> None:
        assert not run().wait_for(1, 0.05)

    def test_it_is_starting_until_it_has_caught_up_once(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        held = Held()
        stores.events.append(booked(ADA, 10))
        runner = run(held)
        assert held.reached.wait(5)
        assert runner.status().state is FollowerState.STARTING

        held.released.set()
        eventually(lambda: runner.status().state is FollowerState.RUNNING)

        runner.close(5)
        assert runner.status().state is FollowerState.STOPPED

    def test_closing_ends_the_thread_soon_and_again_does_nothing(self, run: Run) -> None:
        runner = run(schedule=PATIENT)

        assert runner.close(5)
        assert runner.close(5)

    def test_closing_ends_the_wait_after_a_failure(
        self, stores: Stores, run: Run, eventually: Eventually
    ) -> None:
        stores.events.append(booked(ADA, 10))
        brittle = Brittle()
        runner = run(brittle)
        eventually(lambda: brittle.attempts >= 3)

        assert runner.close(2)

    def test_what_was_appended_after_the_end_is_not_projected(
        self, stores: Stores, run: Run
    ) -> None:
        runner = run()
        runner.close(5)

        stores.events.append(booked(ADA, 10))

        assert not runner.wait_for(1, 0.05)
        assert balance(stores) is None


def test_a_projection_ends_with_its_bus(stores: Stores, run: Run, eventually: Eventually) -> None:
    runner = run()

    stores.bus.close()

    eventually(lambda: runner.status().state is FollowerState.STOPPED)
