"""``python -m shop``."""

import sys


def run() -> int:
    """Run the command line of the process; return the exit code."""
    try:
        from shop.cli import main  # noqa: PLC0415 - which takes its time: Ctrl-C may come already

        return main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
