"""What all programs of the shop have in common: how they log, and how they fail."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from shop.application import ApplicationError
from shop.config import ConfigurationError
from shop.eventsourcing import EventSourcingError
from shop.urls import redacted

EXIT_FAILED = 1
"""The store cannot be used, the address is taken, read models are wrong, …"""
EXIT_MISUSED = 2
"""The configuration or the command line is wrong."""


@contextmanager
def clear_failures() -> Iterator[None]:
    """Turn the failures to be expected into one message on stderr and an exit code."""
    try:
        yield
    except (ConfigurationError, ApplicationError) as error:
        fail(str(error), EXIT_MISUSED)
    except EventSourcingError as error:
        fail(str(error), EXIT_FAILED)


def fail(message: str, code: int) -> NoReturn:
    """End the process with a message, in which passwords of URLs are blotted out.

    The exit code is the same where nobody reads the message any more.
    """
    with suppress(BrokenPipeError):
        print(redacted(message), file=sys.stderr)  # noqa: T201 - for people, also without a log
    raise SystemExit(code) from None


class LineFormatter(logging.Formatter):
    """Time in UTC, level, thread, logger, message. Only a traceback takes further lines.

    Passwords in URLs are blotted out.
    """

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(threadName)s %(name)s: %(message)s",
            "%Y-%m-%dT%H:%M:%S",
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Keep a message with line ends, which may come from a client, on one line."""
        return super().formatMessage(record).replace("\n", "\\n").replace("\r", "\\r")

    def format(self, record: logging.LogRecord) -> str:
        """The whole record."""
        return redacted(super().format(record))


def log_to_stderr(level: int) -> None:
    """Send records to stderr, unless logging is set up already. For programs."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    # This logger has a line for almost every request while all threads are busy.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    logging.getLogger("waitress").addFilter(_ACCEPT_FAILURES)


class OncePerSecond(logging.Filter):
    """Lets a message pass once a second at most, and all other messages always.

    Where no file can be opened any more, waitress fails to accept a connection, logs that with its
    traceback, and tries again at once, until one is closed.
    """

    def __init__(self, message: str) -> None:
        super().__init__()
        self._message = message
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        if record.msg != self._message:
            return True
        now = time.monotonic()
        passes = now >= self._next
        if passes:
            self._next = now + 1
        return passes


_ACCEPT_FAILURES = OncePerSecond("server accept() threw an exception")
"""One for the process: a logger takes the same filter once, however often it is added."""
