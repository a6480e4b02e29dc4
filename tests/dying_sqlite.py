"""SQLite connections whose process dies at a chosen commit, as by the power cord."""

from __future__ import annotations

import os
import signal
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any


class Dying(sqlite3.Connection):
    """Kills its process before or after the nth commit to a file, from when it is armed."""

    moment, file = "", ""
    left = 0

    def __init__(self, path: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(path, *arguments, **options)
        self._path = str(path)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        dying = False
        if sql == "COMMIT" and self._path == Dying.file:
            Dying.left -= 1
            dying = Dying.left == 0
        if dying and Dying.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        cursor = super().execute(sql, parameters)
        if dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return cursor


def connect_dying() -> None:
    """Make all connections from now on such as may be armed."""
    sqlite3.connect = partial(sqlite3.connect, factory=Dying)  # type: ignore[assignment]  # the fault


def arm(moment: str, file: Path | str, nth: int = 1) -> None:
    """Die just ``before`` or just ``after`` the nth commit to come."""
    Dying.moment, Dying.file, Dying.left = moment, str(file), nth
