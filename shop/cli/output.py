"""What a command tells about its work, while it goes on."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def tell(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, by default on stdout.

    A reader that has closed the pipe, such as ``head``, does not end the work.
    """
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        drop(stream)


def drop(stream: TextIO) -> None:
    """Send what is still to be written nowhere, so that Python does not complain at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
