"""What the tests of SQLite run in other processes: ``python -m … <function> <arguments>``."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from uuid import UUID

from shop.backends.sqlite import Database, SqliteEventStore
from shop.eventsourcing import AggregateRef, StoreUnavailableError
from tests.backends.store_programs import say
from tests.dying_sqlite import arm, connect_dying
from tests.notebook import note, noted, registry, stream


def open_store(path: str) -> SqliteEventStore:
    return SqliteEventStore(Database(Path(path)), registry(), owns_database=True)


def die(path: str, moment: str, commit_id: str, ref_id: str, size: str) -> None:
    """Be killed at the end of an append: just ``before`` or just ``after`` its commit."""
    connect_dying()
    store = open_store(path)
    arm(moment, path)
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
