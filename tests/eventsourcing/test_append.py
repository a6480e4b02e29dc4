"""What becomes of an append whose connection was lost."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from shop.eventsourcing import (
    Commit,
    CommitInDoubtError,
    ConcurrencyError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.append import until_certain
from tests.notebook import note

DONE = Commit(uuid4(), 1, 1, b"digest")
DOUBT = CommitInDoubtError("the connection was lost")
DOWN = StoreUnavailableError("connection refused")


def attempts(*outcomes: Commit | Exception) -> Callable[[], Commit]:
    """An append that comes to these outcomes, one each time, and the last one from then on."""
    left = list(outcomes)

    def append() -> Commit:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return append


def test_what_is_certain_is_not_repeated() -> None:
    for outcome in (DOWN, ConcurrencyError(note(), 1, 2)):
        with pytest.raises(type(outcome)):
            until_certain(attempts(outcome, DONE), timeout=5)


def test_a_doubt_is_cleared_by_repeating() -> None:
    assert until_certain(attempts(DOUBT, DOWN, DOUBT, DONE), timeout=5) == DONE
    with pytest.raises(ConcurrencyError):
        until_certain(attempts(DOUBT, ConcurrencyError(note(), 1, 2)), timeout=5)


@pytest.mark.parametrize(
    "kept_by", [DOWN, StoreClosedError("the store is closed"), StoreError("refused")]
)
def test_a_doubt_that_stays_is_told_with_what_kept_it(kept_by: StoreError) -> None:
    with pytest.raises(CommitInDoubtError) as told:
        until_certain(attempts(DOUBT, kept_by), timeout=0.2)
    assert str(told.value) == (
        f"the connection was lost; then: {kept_by};"
        " whether what was to be stored is stored is not known"
    )
