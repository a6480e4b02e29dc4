"""A command line of the shop that is killed at a commit: ``python -m … MOMENT NTH FILE COMMAND …``.

It dies just ``before`` or just ``after`` the nth commit to that database file.
"""

from __future__ import annotations

import sys

from shop.cli import main
from tests.dying_sqlite import arm, connect_dying

if __name__ == "__main__":
    moment, nth, file, *command = sys.argv[1:]
    connect_dying()
    arm(moment, file, int(nth))
    sys.exit(main(command))
