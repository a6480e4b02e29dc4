"""What becomes of an append whose connection was lost."""

from __future__ import annotations

from collections.abc import Sequence
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
from shop.eventsourcing.stores.append import until_certain
from tests.notebook import note

DONE = Commit(uuid4(), 1, 1, b"digest")
DOUBT = CommitInDoubtError("the connection was lost")
DOWN = StoreUnavailableError("connection refused")
CONFLICT = ConcurrencyError(note(), 1, 2)


class Attempts:
    """Appends that come to these outcomes, one each time, and the last one from then on."""

    def __init__(self, **outcomes: Sequence[Commit | Exception]) -> None:
        self._left = {name: list(one) for name, one in outcomes.items()}
        self.made: list[Sequence[str]] = []

    def __call__(self, names: Sequence[str]) -> list[Commit | Exception]:
        self.made.append(names)
        left = [self._left[name] for name in names]
        return [one.pop(0) if len(one) > 1 else one[0] for one in left]

    def outcomes(self, *, timeout: float = 5) -> list[Commit | Exception]:
        return until_certain(self, list(self._left), timeout=timeout)


def test_what_is_certain_is_not_repeated() -> None:
    attempts = Attempts(down=[DOWN, DONE], conflict=[CONFLICT, DONE], done=[DONE, DOWN])
    assert attempts.outcomes() == [DOWN, CONFLICT, DONE]
    assert attempts.made == [["down", "conflict", "done"]]


def test_a_doubt_is_cleared_by_repeating() -> None:
    attempts = Attempts(
        one=[DOUBT, DOWN, DOUBT, DONE], other=[DOUBT, CONFLICT, DONE], third=[DONE, DOUBT]
    )
    assert attempts.outcomes() == [DONE, CONFLICT, DONE]
    assert attempts.made == [["one", "other", "third"], ["one", "other"], ["one"], ["one"]]


@pytest.mark.parametrize(
    "kept_by", [DOWN, StoreClosedError("the store is closed"), StoreError("refused")]
)
def test_a_doubt_that_stays_is_told_with_what_kept_it(kept_by: StoreError) -> None:
    told, done = Attempts(one=[DOUBT, kept_by], other=[DONE]).outcomes(timeout=0.2)
    assert isinstance(told, CommitInDoubtError)
    assert str(told) == (
        f"the connection was lost; then: {kept_by};"
        " whether what was to be stored is stored is not known"
    )
    assert done == DONE


def test_a_store_that_is_closed_is_not_asked_again() -> None:
    attempts = Attempts(one=[DOUBT, StoreClosedError("the store is closed")])
    attempts.outcomes()
    assert len(attempts.made) == 2
