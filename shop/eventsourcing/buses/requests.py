"""The port for requests between processes: one asks, and one member of a group answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Request(Protocol):
    """A request that was received, for any thread."""

    @property
    def data(self) -> bytes:
        """What is asked."""
        ...

    def answer(self, data: bytes) -> None:
        """Answer, without waiting for anything; once.

        An answer may get lost on its way. Raises :class:`MessageTooLargeError` for one that cannot
        be sent; another may be sent then.
        """
        ...


class Membership(Protocol):
    """One member of a group that serves requests. All methods may be called by any thread."""

    def leave(self) -> None:
        """Leave the group, without waiting: soon, others get all requests; idempotent.

        What was on its way to this member is still received.
        """
        ...

    def close(self, timeout: float) -> None:
        """Leave, and wait until nothing is on its way any more, at most ``timeout`` seconds."""
        ...


class RequestBus(Protocol):
    """Carries requests to the processes that serve their subject. Thread-safe.

    All methods raise :class:`BusClosedError` once it is closed.
    """

    def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        """Ask one of the processes that serve the subject, and wait for the answer.

        - :class:`NoResponderError`: no process serves it, so none has got the request
        - :class:`BusUnavailableError`: there is no connection; it was not sent
        - :class:`MessageTooLargeError`: it was not sent
        - :class:`NoAnswerError`: no answer came within ``timeout`` seconds, or before the
          connection broke; it may have arrived
        """
        ...

    def serve(
        self, subjects: Sequence[str], group: str, receive: Callable[[Request], None]
    ) -> Membership:
        """Join a group, of which one member gets each request to one of the subjects.

        ``receive`` is called with each by a thread of the bus, so it must not block.
        """
        ...
