"""Where the answers to requests come to, and the threads that wait for them."""

from __future__ import annotations

import threading
from itertools import count
from uuid import uuid4

from shop.backends.nats.client import Message
from shop.eventsourcing.errors import BusError, NoAnswerError, NoResponderError

_NO_RESPONDERS = "503"


class Answer:
    """The answer to one request, which one thread waits for within a ``with`` block."""

    __slots__ = ("_come", "_expected", "_outcome", "subject")

    def __init__(self, subject: str, expected: dict[str, Answer]) -> None:
        self.subject = subject
        """What the answer is to be sent to."""
        self._expected = expected
        self._outcome: Message | BusError | None = None
        # A plain lock, taken here and released at the end of the wait: far cheaper than an Event.
        self._come = threading.Lock()
        self._come.acquire()

    def __enter__(self) -> Answer:
        self._expected[self.subject] = self
        return self

    def __exit__(self, *exception: object) -> None:
        del self._expected[self.subject]

    def wait(self, timeout: float) -> Message:
        """The answer. Raises :class:`NoAnswerError`, also after ``timeout`` seconds, and
        :class:`NoResponderError`.
        """
        self._come.acquire(timeout=max(0.0, timeout))
        outcome = self._outcome
        if outcome is None:
            raise NoAnswerError(f"NATS: no answer within {timeout:g} s")
        if isinstance(outcome, BusError):
            raise outcome
        if outcome.headers.get("Status") == _NO_RESPONDERS:
            raise NoResponderError("NATS: nobody answers requests for this subject")
        return outcome

    def come(self, outcome: Message | BusError) -> None:
        """End the wait; only the first outcome counts. On the loop only."""
        if self._outcome is None:
            self._outcome = outcome
            self._come.release()


class Inbox:
    """The answers to all requests of a connection. Each has a subject of its own below one."""

    def __init__(self) -> None:
        self._prefix = f"_INBOX.{uuid4().hex}."
        self._numbers = count(1)
        self._expected: dict[str, Answer] = {}

    @property
    def subject(self) -> str:
        """What all of them are sent to."""
        return self._prefix + "*"

    def expect(self) -> Answer:
        """One more answer."""
        return Answer(f"{self._prefix}{next(self._numbers)}", self._expected)

    def deliver(self, message: Message) -> None:
        """Hand an answer to the thread that waits for it, if one still does. On the loop only."""
        answer = self._expected.get(message.subject)
        if answer is not None:
            answer.come(message)

    def fail(self, error: BusError) -> None:
        """Tell all threads that wait now that no answer will come. On the loop only."""
        for answer in tuple(self._expected.values()):
            answer.come(error)
