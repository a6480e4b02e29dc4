"""The first use of stores that may not be reachable yet."""

from __future__ import annotations

import threading

import pytest

from shop.eventsourcing import StoreFormatError, StoreUnavailableError
from shop.opening import Opening
from tests.conftest import Eventually


class Door:
    """Stores that open when they are told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.knocks = 0

    def open(self) -> None:
        self.knocks += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def opened() -> threading.Event:
    return threading.Event()


def test_stores_that_can_be_reached_are_open_at_once(opened: threading.Event) -> None:
    opening = Opening(Door().open)
    opening.check()
    opening.start(opened.set)
    assert opened.is_set()
    opening.close(1.0)


def test_what_waiting_does_not_heal_is_raised_at_once() -> None:
    with pytest.raises(StoreFormatError, match="some other program"):
        Opening(Door(StoreFormatError("of some other program")).open)


def test_stores_that_cannot_be_reached_are_tried_until_they_can(
    opened: threading.Event, eventually: Eventually
) -> None:
    door = Door(StoreUnavailableError("nobody answers"))
    opening = Opening(door.open)
    opening.start(opened.set)
    eventually(lambda: door.knocks >= 3)
    assert not opened.is_set()
    with pytest.raises(StoreUnavailableError, match="not open yet: nobody answers"):
        opening.check()

    door.error = None

    assert opened.wait(10)
    eventually(lambda: opening.problem is None)
    opening.check()
    opening.close(1.0)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreFormatError("of some other program"), "of some other program"),
        (ZeroDivisionError("a bug"), "ZeroDivisionError('a bug')"),
    ],
    ids=["expected", "unexpected"],
)
def test_what_is_found_wrong_later_is_told_and_tried_again(
    opened: threading.Event, eventually: Eventually, error: Exception, told: str
) -> None:
    door = Door(StoreUnavailableError("nobody answers"))
    opening = Opening(door.open)
    opening.start(opened.set)
    door.error = error
    eventually(lambda: opening.problem == f"not open yet: {told}")
    assert not opened.is_set()
    door.error = None
    assert opened.wait(10)
    opening.close(1.0)


@pytest.mark.parametrize("started", [True, False])
def test_it_can_be_given_up(opened: threading.Event, *, started: bool) -> None:
    opening = Opening(Door(StoreUnavailableError("nobody answers")).open)
    if started:
        opening.start(opened.set)
    opening.close(5.0)
    opening.close(5.0)
    assert not opened.is_set()
    assert "opening" not in {thread.name for thread in threading.enumerate()}
