from __future__ import annotations

import time

import pytest

from shop.eventsourcing import ConcurrencyError
from shop.eventsourcing.retry import Backoff, ConflictRetry
from tests.eventsourcing.bank import account

CONFLICT = ConcurrencyError(account(), 1, 2)


def insist(retry: ConflictRetry, error: Exception) -> None:
    """An attempt that always fails."""
    for attempt in retry:
        with attempt:
            raise error


def test_delays_grow_up_to_the_most() -> None:
    backoff = Backoff(first=0.1, most=1.0)

    delays = [backoff.next_delay() for _ in range(100)]

    bounds = [0.1, 0.2, 0.4, 0.8] + [1.0] * 96
    assert all(b / 2 <= delay <= b for delay, b in zip(delays, bounds, strict=True))
    assert backoff.attempts == 100


def test_delays_are_random_so_that_those_who_failed_together_part() -> None:
    assert len({Backoff(first=0.1, most=1.0).next_delay() for _ in range(20)}) == 20


def test_delays_begin_anew_after_a_success() -> None:
    backoff = Backoff(first=0.1, most=1.0)
    for _ in range(5):
        backoff.next_delay()

    backoff.reset()

    assert backoff.next_delay() <= 0.1


def test_a_success_ends_the_attempts() -> None:
    retry = ConflictRetry(timeout=5)

    for attempt in retry:
        with attempt:
            pass

    assert retry.attempts == 1


def test_a_conflict_is_tried_again() -> None:
    retry = ConflictRetry(timeout=5)

    for attempt in retry:
        with attempt:
            if retry.attempts < 4:
                raise CONFLICT

    assert retry.attempts == 4


def test_the_last_conflict_comes_out_when_the_time_is_over() -> None:
    began = time.monotonic()
    retry = ConflictRetry(timeout=0.05)

    with pytest.raises(ConcurrencyError):
        insist(retry, CONFLICT)

    assert retry.attempts > 1
    assert 0.05 <= time.monotonic() - began < 5


def test_without_time_there_is_one_attempt() -> None:
    retry = ConflictRetry(timeout=0)

    with pytest.raises(ConcurrencyError):
        insist(retry, CONFLICT)

    assert retry.attempts == 1


def test_other_errors_come_out_at_once() -> None:
    retry = ConflictRetry(timeout=5)

    with pytest.raises(LookupError):
        insist(retry, LookupError("no"))

    assert retry.attempts == 1
