"""A process that reads events and prints its peak memory in MiB: ``bench.reader FILE EVENTS``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from shop.bootstrap import event_registry, open_event_store
from shop.eventsourcing import Query


def main(path: str, events: int) -> None:
    """Read the first so many events one by one."""
    with open_event_store(f"sqlite:///{path}", event_registry()) as store:
        assert sum(1 for _ in store.read(Query(limit=events))) == events
    # Not getrusage: what that tells of a process may be what its parent took.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    print(int(peak[1]) / 1024)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
