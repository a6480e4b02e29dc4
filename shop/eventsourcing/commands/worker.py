"""Carrying out the commands that other processes dispatch."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime

import msgspec

from shop.eventsourcing.buses.requests import Membership, Request, RequestBus
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.commands.wire import (
    GROUP,
    Answer,
    CommandMessage,
    Done,
    Expired,
    Failed,
    NotTaken,
    Present,
    answer_of,
    command_subject,
    decode_command,
    encode_message,
)
from shop.eventsourcing.errors import MessageTooLargeError, StoreClosedError
from shop.eventsourcing.stores.store import EventStore
from shop.eventsourcing.threads import BackgroundThread

logger = logging.getLogger(__name__)

_WAITING_PER_THREAD = 8
"""Commands that may wait, for each thread that carries some out."""
_LEAVING = 2.0
"""Seconds that the bus may take to confirm that this worker has left: it may be silent."""


class CommandWorker:
    """Serves the commands of other processes with a few threads of its own, which it owns.

    It joins the workers of its event store, of which one gets each command. At most eight commands
    for each thread wait here; further ones are turned down, so that they are sent again, to another
    worker perhaps. All methods may be called by any thread.
    """

    def __init__(
        self,
        commands: CommandBus,
        store: EventStore,
        bus: RequestBus,
        *,
        threads: int = 8,
    ) -> None:
        self._commands = commands
        self._store = store
        self._bus = bus
        self._max_waiting = threads * _WAITING_PER_THREAD
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._membership: Membership | None = None
        self._threads = [
            BackgroundThread(f"command-worker-{number}", self._run, on_stop=self.stop)
            for number in range(1, threads + 1)
        ]

    def start(self) -> None:
        """Start the threads and join the workers. Once.

        Raises :class:`StoreUnavailableError`; then it has not begun, and may be started later.
        """
        identity = self._store.info().identity
        for thread in self._threads:
            thread.start()
        subjects = [command_subject(identity, cls.wire.name) for cls in self._commands.registry]
        membership = self._bus.serve(subjects, GROUP, self._receive)
        with self._changed:
            self._membership = membership
            stopped_meanwhile = self._stopping
        if stopped_meanwhile:
            membership.leave()

    def stop(self) -> None:
        """Leave the workers and take no command on any more, without waiting; idempotent.

        Commands under way are finished. Those that wait are turned down, for other workers.
        """
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            left = list(self._waiting)
            self._waiting.clear()
            membership = self._membership
            self._changed.notify_all()
        if membership is not None:
            membership.leave()
        for request in left:
            _answer(request, NotTaken("the worker is stopping"))

    def close(self, timeout: float) -> None:
        """Stop, and wait at most ``timeout`` seconds for the commands under way; idempotent."""
        until = time.monotonic() + timeout
        self.stop()
        for thread in self._threads:
            thread.close(max(0.0, until - time.monotonic()))
        if self._membership is not None:
            self._membership.close(max(0.0, min(_LEAVING, until - time.monotonic())))

    def _receive(self, request: Request) -> None:
        """Take a request on, or say at once that another worker should. Never blocks."""
        if not request.data:
            _answer(request, Present())
            return
        with self._changed:
            if not self._stopping and len(self._waiting) < self._max_waiting:
                self._waiting.append(request)
                self._changed.notify()
                return
            stopping = self._stopping
        _answer(request, NotTaken("the worker is stopping" if stopping else "the worker is busy"))

    def _run(self, stopping: threading.Event) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return
                request = self._waiting.popleft()
            try:
                message = decode_command(request.data)
            except (ValueError, RecursionError) as error:
                logger.error("a command was received that cannot be read: %s", error)
                _answer(request, Failed(f"the command cannot be read: {error}"))
                continue
            self._serve(request, message)

    def _serve(self, request: Request, message: CommandMessage) -> None:
        left = message.left()
        if left <= 0:
            _answer(request, Expired(datetime.now(UTC)))
            return
        try:
            command = message.command(self._commands.registry)
            done = Done.of(
                self._commands.dispatch(
                    command, timeout=left, given_up_before=message.given_up_before
                )
            )
        except StoreClosedError:
            _answer(request, NotTaken("the worker is stopping"))
        except Exception as error:  # the sender is told
            answer = answer_of(error)
            if isinstance(answer, Failed):
                logger.exception("command %s (%s) failed", message.id, message.name)
            _answer(request, answer)
        else:
            try:
                request.answer(encode_message(done))
            except MessageTooLargeError:
                _answer(request, msgspec.structs.replace(done, events=None))


def _answer(request: Request, answer: Answer) -> None:
    try:
        request.answer(encode_message(answer))
    except MessageTooLargeError as error:
        logger.error("an answer could not be sent: %s", error)
