"""Doing things in other threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from shop.eventsourcing import CommandRejected

T = TypeVar("T")


def in_another_thread(action: Callable[[], T]) -> T:
    """Do it and wait for it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


def at_once(actions: Sequence[Callable[[], object]]) -> list[str]:
    """Do all of it at the same time, each in a thread; return what came of each, in their order.

    That is ``done``, or the code with which it was rejected; other errors come out.
    """
    start = Barrier(len(actions))

    def run(action: Callable[[], object]) -> str:
        start.wait()
        try:
            action()
        except CommandRejected as refusal:
            return refusal.code
        return "done"

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))
