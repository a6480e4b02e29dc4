"""What tests of stores run in other processes: ``python -m … <function> <URL> <arguments>``."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import msgspec

from shop.bootstrap import open_event_store
from shop.eventsourcing import AggregateRef, ConcurrencyError, EventStore, Query
from tests.notebook import AnyEvent, note, noted, registry, stream


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - this is how it talks to the test


def wait_to_be_told() -> None:
    sys.stdin.readline()


def create(*urls: str) -> None:
    """Open one store after the other and append to it, at the same time as others."""
    say("ready")
    for url in urls:
        wait_to_be_told()
        with open_event_store(url, registry()) as store:
            store.append([noted(note(), 1)])
            say(store.info().identity)


def fork(url: str) -> None:
    """Append to a store in the process that opened it and in a child, and look at the outcomes."""
    with open_event_store(url, registry()) as store:
        store.append([noted(note(), 1)])
        child = os.fork()
        commits = [store.append([noted(note(), 1)]) for _ in range(200)]
        found = [store.find_commit(commit.id) for commit in commits]
        right = found == [msgspec.structs.replace(commit, replayed=True) for commit in commits]
        if not child:
            os._exit(not right)
        _, status = os.waitpid(child, 0)
        say(right, status)


def write(url: str, threads: str, commits: str, shared: str) -> None:
    """Append to aggregates of its own, and every fourth time to one that all share.

    Each thread says the ids of its commits at the end.
    """
    ours = AggregateRef("notebook.note", UUID(shared))
    with open_event_store(url, registry()) as store:
        store.head()
        say("ready")
        wait_to_be_told()
        with ThreadPoolExecutor(int(threads)) as pool:
            written = pool.map(lambda _: _write(store, int(commits), ours), range(int(threads)))
            for ids in written:
                say(*ids)


def _write(store: EventStore, commits: int, ours: AggregateRef) -> list[UUID]:
    mine, version = note(), 0
    ids = []
    for number in range(commits):
        events = stream(mine, 1 + number % 2, after=version)
        ids.append(_append(store, events, ours if number % 4 == 0 else None))
        version += len(events)
    return ids


def _append(store: EventStore, events: list[AnyEvent], ours: AggregateRef | None) -> UUID:
    """Append, with an event of the shared aggregate if there is one, until nobody is faster."""
    while ours is not None:
        try:
            return store.append([*events, noted(ours, _version(store, ours) + 1)]).id
        except ConcurrencyError:
            continue
    return store.append(events).id


def _version(store: EventStore, ref: AggregateRef) -> int:
    return next((e.version for e in store.read(Query(refs=[ref], reverse=True, limit=1))), 0)


def follow(url: str) -> None:
    """Read the log as it grows, until it is told that it grows no more; every position once."""
    say("ready")
    wait_to_be_told()
    ended = threading.Event()

    def await_the_end() -> None:
        wait_to_be_told()
        ended.set()

    threading.Thread(target=await_the_end, daemon=True).start()
    seen = 0
    with open_event_store(url, registry()) as store:
        last_round = False
        while not last_round:
            last_round = ended.is_set()
            for event in store.read(Query(after=seen)):
                assert event.position == seen + 1, f"{event.position} after {seen}"
                seen = event.position
    say("seen", seen)


def append_for_ever(url: str) -> None:
    """Append one event after the other, and say each position."""
    with open_event_store(url, registry()) as store:
        while True:
            say(store.append(stream(note(), 1)).last)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
