"""What the tests of SQLite run in other processes: ``python -m … <function> <arguments>``."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from shop.backends.sqlite import Database, SqliteEventStore
from shop.eventsourcing import AggregateRef, ConcurrencyError, Query, StoreUnavailableError
from tests.notebook import note, noted, registry, stream


def open_store(path: str) -> SqliteEventStore:
    return SqliteEventStore(Database(Path(path)), registry(), owns_database=True)


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - this is how it talks to the test


def wait_to_be_told() -> None:
    sys.stdin.readline()


def create(path: str) -> None:
    """Open the file and append to it, at the same time as others."""
    say("ready")
    wait_to_be_told()
    with open_store(path) as store:
        store.append([noted(note(), 1)])
        say(store.info().identity)


def write(path: str, commits: str, shared: str) -> None:
    """Append to an aggregate of its own, and to one that it shares with others."""
    mine, ours = note(), AggregateRef("notebook.note", UUID(shared))
    version = 0
    with open_store(path) as store:
        say("ready")
        wait_to_be_told()
        for number in range(int(commits)):
            size = 1 + number % 3
            while True:
                [*last] = store.read(Query(refs=[ours], reverse=True, limit=1))
                next_of_ours = noted(ours, last[0].version + 1 if last else 1)
                try:
                    store.append([*stream(mine, size, after=version), next_of_ours])
                except ConcurrencyError:
                    continue
                break
            version += size


class Dying(sqlite3.Connection):
    """Kills its process before or after it commits, from when it is armed."""

    armed = ""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        dying = sql == "COMMIT" and Dying.armed
        if dying == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        cursor = super().execute(sql, parameters)
        if dying == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return cursor


def die(path: str, moment: str, commit_id: str, ref_id: str, size: str) -> None:
    """Be killed at the end of an append: just ``before`` or just ``after`` its commit."""
    sqlite3.connect = partial(sqlite3.connect, factory=Dying)  # type: ignore[assignment]  # the fault
    store = open_store(path)
    Dying.armed = moment
    store.append(
        stream(AggregateRef("notebook.note", UUID(ref_id)), int(size)), commit_id=UUID(commit_id)
    )


def fill(path: str) -> None:
    """Append until the files may grow no more, then go on with more room."""
    with open_store(path) as store:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, unlimited[1]))
        appended = 0
        try:
            for _ in range(1000):
                store.append([noted(note(), 1, "x" * 10_000)])
                appended += 1
        except StoreUnavailableError as error:
            say(error)
        say(appended)
        say(len(list(store.read())))
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        say(store.append([noted(note(), 1)]).first)


def read_only(path: str) -> None:
    """Open a file that this user may not write to."""
    if os.geteuid() == 0:
        os.setuid(65534)  # nobody: root may write to everything
    try:
        open_store(path)
    except StoreUnavailableError as error:
        say(error)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
