"""Watching the models of projections that run elsewhere."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from shop.eventsourcing import ModelWatch, ProjectionRunner
from tests.eventsourcing.bank import Balances, account, booked, weather
from tests.eventsourcing.conftest import Stores

ADA = account()


def watch(stores: Stores) -> ModelWatch:
    return ModelWatch(Balances(), stores.events, stores.models, stores.bus)


def run(stores: Stores) -> ProjectionRunner:
    runner = ProjectionRunner(Balances(), stores.events, stores.models, stores.bus)
    runner.start()
    return runner


def test_a_wait_ends_when_the_models_elsewhere_have_come_so_far(stores: Stores) -> None:
    watching = watch(stores)
    stores.events.append(booked(ADA, 1))
    assert not watching.wait_for(2, 0.05)
    assert watching.position == 0
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(watching.wait_for, 2, 10)
        runner = run(stores)
        assert waiting.result()
        runner.close(5)
    assert (watching.position, watching.committed) == (2, 2)


def test_events_that_do_not_concern_the_projection_are_not_waited_for(stores: Stores) -> None:
    runner = run(stores)
    stores.events.append(booked(ADA, 1))
    assert runner.wait_for(2, 10)
    runner.close(5)
    stores.events.append(weather(3))
    watching = watch(stores)
    assert watching.wait_for(5, 0)
    assert (watching.position, watching.committed) == (5, 2)
    stores.events.append(booked(ADA, 1, after=2))
    assert not watching.wait_for(6, 0)


def test_a_position_that_the_log_has_not_reached_is_not_reached(stores: Stores) -> None:
    runner = run(stores)
    stores.events.append(booked(ADA))
    assert runner.wait_for(1, 10)
    runner.close(5)
    watching = watch(stores)
    assert watching.wait_for(1, 0)
    assert not watching.wait_for(2, 0.05)


def test_waits_end_when_they_are_told_to(stores: Stores) -> None:
    watching = watch(stores)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(watching.wait_for, 99, 60)
        watching.end_waits()
        assert not waiting.result()
    assert time.monotonic() - began < 5
