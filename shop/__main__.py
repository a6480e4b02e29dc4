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
    """Put ``/dev/null`` in the place of standard streams that were closed (``>&-``).

    Otherwise the next file that is opened gets the number of one, and what is meant for stderr
    comes into that file. Stdin is empty then. Stdout cannot be written to, so that a command whose
    output would be lost fails. What is written to stderr is discarded.
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
