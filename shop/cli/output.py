"""Writing to a stream that the reader may have closed, such as a pipe to ``head``."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def tell(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, by default on stdout. The work goes on when the pipe is closed."""
    stream = stream or sys.stdout
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        drop(stream)


def drop(stream: TextIO) -> None:
    """Discard what is still to be written, so that Python does not complain at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
