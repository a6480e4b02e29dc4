"""``python -m shop``."""

import os
import sys


def run() -> int:
    """Run the command line of the process; return the exit code."""
    _replace_closed_streams()
    try:
        from shop.cli import main  # noqa: PLC0415 - which takes its time: Ctrl-C may come already

        return main()
    except KeyboardInterrupt:
        return 130


def _replace_closed_streams() -> None:
    """Have a standard stream that was closed (``>&-``) be empty, unwritable, or go nowhere.

    Else the next file to be opened takes its place, and what is for stderr goes to stdout.
    """
    for name, access, mode in (
        ("stdin", os.O_RDONLY, "r"),
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))


if __name__ == "__main__":
    sys.exit(run())
