"""How things are measured: in turns, several rounds, and by medians.

Other work on the machine slows a round down, not a side: so the sides of a comparison take turns,
and what counts is the median of the ratios that the rounds came to.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the results. ``raw`` is what the driver did alone, in the same run."""

    theme: str
    what: str
    unit: str
    ours: float
    raw: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    """``None`` where there is no target."""


class Samples:
    """What each side of a comparison came to, round by round."""

    def __init__(self, rounds: Mapping[str, Sequence[float]]) -> None:
        self._rounds = rounds

    def typical(self, side: str) -> float:
        """The median of a side."""
        return median(self._rounds[side])

    def ratio(self, side: str, other: str) -> float:
        """The median of the ratios of two sides, each ratio within one round."""
        return median(a / b for a, b in zip(self._rounds[side], self._rounds[other], strict=True))


class Bench:
    """Where a benchmark works, and how it says what it does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """An empty directory, which is removed at the end."""

    def say(self, what: str) -> None:
        """Show what is going on."""
        print(f"  {what}", file=sys.stderr, flush=True)

    def in_turns(self, sides: Mapping[str, Callable[[], float]], *, rounds: int = 5) -> Samples:
        """Measure the sides one after the other, and that several times.

        A round before the first warms up and is not counted.
        """
        measured: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, side in sides.items():
                figure = side()
                if number:
                    measured[name].append(figure)
            self.say(f"{number:2} of {rounds}: {_latest(measured)}" if number else "warming up")
        return Samples(measured)


def as_served(side: Callable[[], T]) -> Callable[[], T]:
    """The side, measured with all threads on one core, as those of a process that serves are."""
    if sys.platform != "linux":
        return side

    def measure() -> T:
        cores = os.sched_getaffinity(0)
        _run_on({max(cores)})
        try:
            return side()
        finally:
            _run_on(cores)

    return measure


def _run_on(cores: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), cores)


def _latest(measured: Mapping[str, Sequence[float]]) -> str:
    return "  ".join(f"{name} {figures[-1]:,.0f}" for name, figures in measured.items())


def rate(action: Callable[[T], object], items: Iterable[T], *, seconds: float) -> float:
    """How often a second the action is done, for so many seconds or until the items run out."""
    done = 0
    began = perf_counter()
    for item in items:
        action(item)
        done += 1
        if perf_counter() - began >= seconds:
            break
    return done / (perf_counter() - began)


def pace(events: Iterator[object], *, size: int) -> float:
    """How many of so many events are read a second."""
    began = perf_counter()
    read = sum(1 for _ in events)
    assert read == size
    return read / (perf_counter() - began)


def rate_of_threads(
    action: Callable[[T], object], items: Sequence[Iterable[T]], *, seconds: float
) -> float:
    """As :func:`rate`, of all threads together, with a thread for each of the ``items``."""
    ready = threading.Barrier(len(items) + 1)
    stop = threading.Event()

    def work(own: Iterable[T]) -> int:
        done = 0
        ready.wait()
        for item in own:
            action(item)
            done += 1
            if stop.is_set():
                break
        return done

    with ThreadPoolExecutor(len(items)) as threads:
        outcomes = [threads.submit(work, own) for own in items]
        ready.wait()
        began = perf_counter()
        wait(outcomes, timeout=seconds)
        stop.set()
        done = sum(outcome.result() for outcome in outcomes)
    return done / (perf_counter() - began)


def percentile(figures: Sequence[float], percent: float) -> float:
    """The figure that so many percent of them do not exceed (nearest rank)."""
    ranked = sorted(figures)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]
