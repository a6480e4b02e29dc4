"""How far a long command has come, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shop.cli.output import tell


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress: a bar on a terminal, a line for each tenth elsewhere.

    Yields a function to call with the position reached and the one to reach.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Tenths(what).show
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda position, to: bar.update(task, completed=position, total=to)


class _Tenths:
    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = 0

    def show(self, position: int, to: int) -> None:
        tenths = 10 * position // max(to, 1)
        if tenths > self._shown:
            self._shown = tenths
            tell(f"{self._what}: {position} of {to} events", sys.stderr)
