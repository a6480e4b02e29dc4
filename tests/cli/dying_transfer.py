"""A command line of the shop that is killed at a commit: ``python -m … MOMENT NTH FILE COMMAND …``.

It dies just ``before`` or just ``after`` the nth commit to that database file.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from functools import partial
from typing import Any

from shop.cli import main


class Dying(sqlite3.Connection):
    """Kills its process before or after the nth commit to the file."""

    moment, file = "", ""
    left = 0

    def __init__(self, path: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(path, *arguments, **options)
        self._counts = str(path) == Dying.file

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        dying = False
        if sql == "COMMIT" and self._counts:
            Dying.left -= 1
            dying = Dying.left == 0
        if dying and Dying.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        cursor = super().execute(sql, parameters)
        if dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return cursor


if __name__ == "__main__":
    Dying.moment, Dying.left, Dying.file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    sqlite3.connect = partial(sqlite3.connect, factory=Dying)  # type: ignore[assignment]  # the fault
    sys.exit(main(sys.argv[4:]))
