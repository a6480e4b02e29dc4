"""``python -m bench [NAME…] [--json FILE]``."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench import (
    aggregates,
    appends,
    freshness,
    large,
    mongodb,
    over_nats,
    postgres,
    projections,
    reading,
    web,
    workflows,
)
from bench.measure import Bench, Row

THEMES: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "append": appends.run,
    "mongodb": mongodb.run,
    "aggregate": aggregates.run,
    "read": reading.run,
    "project": projections.run,
    "postgres": postgres.run,
    "web": web.run,
    "fresh": freshness.run,
    "nats": over_nats.run,
    "workflow": workflows.run,
    "large": large.run,
}


class Report(msgspec.Struct, frozen=True):
    """The results, and what they were come by on."""

    time: datetime
    python: str
    sqlite: str
    machine: str
    cores: int | None
    seconds: float
    rows: list[Row]


def main() -> None:
    """Run the benchmarks that were asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(THEMES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(THEMES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is {', '.join(THEMES)}")
    began = time.monotonic()
    rows = [row for name in arguments.names or THEMES for row in _run(name)]
    report = Report(
        datetime.now(UTC),
        platform.python_version(),
        sqlite3.sqlite_version,
        platform.platform(),
        os.cpu_count(),
        round(time.monotonic() - began, 1),
        rows,
    )
    Console(width=None if sys.stdout.isatty() else 120).print(_table(report))
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def _run(name: str) -> Iterator[Row]:
    # Beside the working directory: what is durable must be measured on a disk, and the system's
    # directory for temporary files may be in memory.
    home = Path(".bench")
    home.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=home.absolute(), prefix=f"{name}-") as directory:
            yield from THEMES[name](Bench(Path(directory)))
    finally:
        with suppress(OSError):  # another run may be at work in it
            home.rmdir()


def _table(report: Report) -> Table:
    table = Table(
        title=f"Python {report.python}, SQLite {report.sqlite}, {report.cores} cores,"
        f" {report.seconds:.0f} s"
    )
    table.add_column("what")
    for column in ("ours", "raw", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("unit")
    table.add_column("target")
    table.add_column("met?")
    theme = None
    for row in report.rows:
        if theme is not None and row.theme != theme:
            table.add_section()
        theme = row.theme
        table.add_row(
            row.what,
            _figure(row.ours),
            "" if row.raw is None else _figure(row.raw),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.unit,
            row.target,
            {None: "", True: "yes", False: "[bold red]no[/]"}[row.met],
        )
    return table


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2f}"


if __name__ == "__main__":
    main()
