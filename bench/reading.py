"""Reading the whole log into typed events."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import raw
from bench.measure import Bench, Row, pace
from bench.sample import business, fill
from shop.bootstrap import event_registry, open_event_store

_EVENTS = 200_000
_FEW, _MANY = 10_000, 1_000_000
_MEBIBYTES_MORE = 16
"""As much as SQLite may keep of the file: its cache fills, and nothing else may grow."""


def run(bench: Bench) -> Iterator[Row]:
    """The speed in this process, and the memory in others."""
    yield from _speed(bench)
    yield from _memory(bench)


def _speed(bench: Bench) -> Iterator[Row]:
    bench.say(f"read: {_EVENTS:,} events, in turns with the raw driver")
    registry = event_registry()
    path = bench.directory / "speed.db"
    decoders = {cls.wire.name: msgspec.json.Decoder(cls) for cls in registry}
    with open_event_store(f"sqlite:///{path}", registry) as store:
        fill(store, business(), _EVENTS)
        samples = bench.in_turns(
            {
                "raw": lambda: pace(raw.read(path, decoders), size=_EVENTS),
                "ours": lambda: pace(store.read(), size=_EVENTS),
            }
        )
    ours = samples.typical("ours")
    yield Row(
        theme="read",
        what="read the log into typed events (beside: fetch, decode data only)",
        unit="events/s",
        ours=ours,
        raw=samples.typical("raw"),
        ratio=samples.ratio("ours", "raw"),
        target="≥ 200,000",
        met=ours >= 200_000,
    )


def _memory(bench: Bench) -> Iterator[Row]:
    bench.say(f"read: writing {_MANY:,} events")
    path = bench.directory / "memory.db"
    with open_event_store(f"sqlite:///{path}", event_registry()) as store:
        written = fill(store, business(), _MANY)
    yield Row(
        theme="read",
        what=f"write {_MANY:,} events, 5,000 a commit",
        unit="s",
        ours=written,
        target="< 30",
        met=written < 30,
    )
    bench.say("read: memory of processes that read the log")
    few, many = _peak(path, _FEW), _peak(path, _MANY)
    yield Row(
        theme="read",
        what=f"peak memory, reading {_MANY:,} events (beside: {_FEW:,})",
        unit="MiB",
        ours=many,
        raw=few,
        ratio=many / few,
        target=f"≤ {_MEBIBYTES_MORE} MiB more",
        met=many - few <= _MEBIBYTES_MORE,
    )


def _peak(path: Path, events: int) -> float:
    """The peak memory, in MiB, of a process that reads so many events."""
    command = [sys.executable, "-m", "bench.reader", str(path), str(events)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
