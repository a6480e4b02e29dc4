"""What makes a follower run, on a bus alone. In the thread of a runner: test_runner.py."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from shop.backends.memory import MemoryEventBus
from shop.eventsourcing import Event, EventData
from shop.eventsourcing.following.announcements import Announcements
from tests.eventsourcing.bank import Balances, account, booked, weather

LONG = 60.0


class Standing:
    """A follower that stands at a position, and what is announced to it."""

    def __init__(self, *, pace: float = 0.0) -> None:
        self.position = 0
        self.bus = MemoryEventBus()
        self.announcements = Announcements(
            self.bus, Balances().event_names, self.pass_over, pace=pace
        )

    def pass_over(self, first: int, last: int) -> bool:
        if first != self.position + 1:
            return False
        self.position = last
        return True


@pytest.fixture
def follower() -> Standing:
    return Standing()


def at(first: int, events: list[Event[EventData]]) -> list[Event[EventData]]:
    """The events, stored from a position on."""
    return [event.at(position) for position, event in enumerate(events, first)]


def test_an_event_that_concerns_the_follower_causes_a_run_up_to_the_last(
    follower: Standing,
) -> None:
    follower.bus.publish(at(1, [*weather(1), *booked(account()), *weather(1)]))

    assert follower.announcements.wait_for_event(LONG)
    assert follower.announcements.begin_run() == 3
    assert follower.announcements.begin_run() is None
    assert follower.position == 0


def test_others_cause_none_and_are_passed_over(follower: Standing) -> None:
    follower.bus.publish(at(1, weather(3)))

    assert not follower.announcements.wait_for_event(0.01)
    assert follower.position == 3


def a_gap(bus: MemoryEventBus) -> None:
    bus.publish([*at(1, weather(1)), *at(3, weather(1))])


def events_further_on(bus: MemoryEventBus) -> None:
    bus.publish(at(2, weather(1)))


@pytest.mark.parametrize("announce", [a_gap, events_further_on])
def test_where_one_may_be_missing_none_is_passed_over(
    follower: Standing, announce: Callable[[MemoryEventBus], None]
) -> None:
    announce(follower.bus)

    assert follower.announcements.wait_for_event(LONG)
    assert follower.position == 0


def others_events(bus: MemoryEventBus) -> None:
    bus.publish(at(1, weather(1)), remote=True)


def more_than_the_queue_holds(bus: MemoryEventBus) -> None:
    bus.publish(at(1, weather(2_000)))


@pytest.mark.parametrize("announce", [others_events, more_than_the_queue_holds])
def test_what_is_not_verified_has_the_store_asked_and_what_follows_has_not(
    follower: Standing, announce: Callable[[MemoryEventBus], None]
) -> None:
    announce(follower.bus)

    assert follower.announcements.wait_for_event(LONG)
    assert follower.position == 0
    assert follower.announcements.begin_run() is None

    follower.bus.publish(at(2_001, booked(account())))
    assert follower.announcements.wait_for_event(LONG)
    assert follower.announcements.begin_run() == 2_001


def test_a_request_ends_one_wait_and_has_the_store_asked_once(follower: Standing) -> None:
    follower.bus.publish(at(1, booked(account())))
    follower.announcements.request()

    assert not follower.announcements.wait_for_event(LONG)
    assert follower.announcements.begin_run() is None
    assert not follower.announcements.requested

    assert follower.announcements.wait_for_event(LONG)
    assert follower.announcements.begin_run() == 1


def test_an_event_waits_for_the_pace_since_the_last_run() -> None:
    follower = Standing(pace=0.1)
    began = time.monotonic()
    follower.announcements.begin_run()
    follower.bus.publish(at(1, booked(account())))

    assert follower.announcements.wait_for_event(LONG)
    assert time.monotonic() - began >= 0.1


def test_what_is_announced_while_a_request_is_waited_for_has_the_store_asked(
    follower: Standing,
) -> None:
    follower.bus.publish(at(1, booked(account())))

    follower.announcements.wait_for_request(0.01)

    assert follower.announcements.begin_run() is None
    assert not follower.announcements.wait_for_event(0.01)


@pytest.mark.parametrize("what", ["announcements", "bus"])
def test_nothing_is_waited_for_after_the_end(follower: Standing, what: str) -> None:
    getattr(follower, what).close()

    assert follower.announcements.closed
    assert not follower.announcements.wait_for_event(LONG)
    follower.announcements.wait_for_request(LONG)
