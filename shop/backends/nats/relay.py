"""The relay: takes the log to a JetStream stream, every event once and in order."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from shop.backends.nats.client import check_size
from shop.backends.nats.connection import NatsConnection
from shop.backends.nats.stream import POSITION, REMEDY, EventStream, RelayError
from shop.backends.nats_settings import StreamConfig
from shop.eventsourcing.buses.bus import BusStatus, EventBus
from shop.eventsourcing.errors import BusError, MessageTooLargeError, StoreError
from shop.eventsourcing.events.envelope import encode_event
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.retry import Backoff
from shop.eventsourcing.stores.store import EventStore, Query
from shop.eventsourcing.threads import BackgroundThread

logger = logging.getLogger(__name__)

_BATCH = 500
"""Events that are published before the stream has acknowledged them, at most."""
_BATCH_BYTES = 4 * 1024 * 1024
"""The same in bytes: the message that goes beyond is the last of its batch."""


class _Cursor(NamedTuple):
    """The position of the log that the stream has reached, and the sequence of its last message."""

    position: int
    sequence: int


class _ApiError(msgspec.Struct, frozen=True):
    description: str = ""
    err_code: int = 0


class _Ack(msgspec.Struct, frozen=True):
    seq: int = 0
    error: _ApiError | None = None


class Relay:
    """Owns a thread that publishes each event of the store as ``<prefix>.events.<name>``.

    The last message of the stream says where to go on, and each message is taken only if it comes
    right after the one before it. So relays of several processes cannot come between each other:
    one that finds another at work stands back, and takes over when the stream stands still.
    All methods may be called by any thread.
    """

    def __init__(
        self,
        connection: NatsConnection,
        store: EventStore,
        bus: EventBus,
        stream: StreamConfig,
        *,
        href: str,
        prefix: str = "shop",
        poll: float = 1.0,
        timeout: float = 5.0,
    ) -> None:
        """``poll`` and ``timeout`` (of a batch) are in seconds.

        ``href`` is where an event can be read, with ``{id}`` in the place of its id: an event that
        is too large for a message goes without its data.
        """
        self._connection = connection
        self._store = store
        self._stream = EventStream(stream, prefix, timeout=timeout)
        self._href = href
        self._poll = poll
        self._timeout = timeout
        self._cursor: _Cursor | None = None
        self._problem: str | None = "the relay has not begun yet"
        self._relayed = 0
        self._shortened = 0
        self._bell = bus.subscribe(capacity=1)
        self._thread = BackgroundThread("relay", self._run, on_stop=self._bell.close)

    @property
    def position(self) -> int:
        """The position that the stream was last known to have reached."""
        cursor = self._cursor
        return cursor.position if cursor else 0

    def status(self) -> BusStatus:
        """How the relay is doing."""
        return BusStatus(
            problem=self._problem,
            figures={
                "relay_position": self.position,
                "relayed_total": self._relayed,
                "shortened_total": self._shortened,
            },
        )

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to stop, without waiting for it."""
        self._thread.stop()

    def close(self, timeout: float) -> bool:
        """Stop after the batch under way; wait at most ``timeout`` seconds. Idempotent."""
        return self._thread.close(timeout)

    def _run(self, stopping: threading.Event) -> None:
        backoff = Backoff(first=0.1, most=2.0)
        idle = True
        while not stopping.is_set() and not self._bell.closed:
            try:
                self._relay(stopping, look=idle)
            except Exception as error:  # noqa: BLE001 - the thread outlives it, `status` shows it
                if stopping.is_set():
                    return  # its connection was closed when it took too long
                self._fail(error)
                stopping.wait(backoff.next_delay())
                idle = True
            else:
                self._problem = None
                backoff.reset()
                idle = not self._bell.take(self._poll)

    def _fail(self, error: Exception) -> None:
        self._cursor = None
        problem = f"relay: {error}"
        if problem != self._problem:
            expected = isinstance(error, BusError | StoreError)
            logger.warning("%s; trying again", problem, exc_info=None if expected else error)
        self._problem = problem

    def _relay(self, stopping: threading.Event, *, look: bool) -> None:
        cursor = self._cursor
        if cursor is None or look:
            cursor = self._find()
        while not stopping.is_set():
            self._cursor = cursor
            events = list(self._store.read(Query(after=cursor.position, limit=_BATCH)))
            if not events:
                return
            taken, refusal = self._publish(cursor, events)
            self._relayed += taken
            cursor = _Cursor(cursor.position + taken, cursor.sequence + taken)
            if refusal is not None:
                found = self._give_way(stopping)
                if found == cursor and not taken:
                    raise RelayError(f"the stream {self._stream.name} takes nothing: {refusal}")
                cursor = found

    def _give_way(self, stopping: threading.Event) -> _Cursor:
        """Wait as long as another relay is at work, and say how far the stream is then."""
        found, before = self._find(), None
        while found != before and not stopping.wait(random.uniform(0.3, 0.6)):
            found, before = self._find(), found
        return found

    def _publish(
        self, cursor: _Cursor, events: Sequence[Event[EventData]]
    ) -> tuple[int, str | None]:
        """Publish events after the cursor: how many the stream took, and why no more."""

        async def publish(client: Client) -> tuple[int, str | None]:
            done: asyncio.Future[tuple[int, str | None]] = asyncio.Future()
            messages = self._messages(client, cursor, events)
            taken = 0

            async def acknowledged(message: Msg) -> None:
                nonlocal taken
                refusal = _refusal(message, cursor.sequence + taken + 1)
                taken += refusal is None
                if not done.done() and (refusal is not None or taken == len(messages)):
                    done.set_result((taken, refusal))

            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox, cb=acknowledged)
            try:
                for turn, (subject, data, headers) in enumerate(messages):
                    if done.done():
                        break
                    await client.publish(subject, data, reply=inbox, headers=headers)
                    if turn % 100 == 99:
                        await asyncio.sleep(0)  # nats-py lets nobody else run otherwise
                return await done
            finally:
                if not client.is_closed:
                    await subscription.unsubscribe()

        return self._connection.run(publish, timeout=self._timeout)

    def _messages(
        self, client: Client, cursor: _Cursor, events: Sequence[Event[EventData]]
    ) -> list[tuple[str, bytes, dict[str, str]]]:
        messages: list[tuple[str, bytes, dict[str, str]]] = []
        size = 0
        for sequence, event in enumerate(events, cursor.sequence):
            subject, data = self._stream.subject(event.name), encode_event(event)
            headers = {
                "Nats-Msg-Id": str(event.id),
                POSITION: str(event.position),
                "Nats-Expected-Last-Sequence": str(sequence),
            }
            if messages:
                # The sequence alone would let this in where a stranger's message came in the place
                # of the one before it.
                headers["Nats-Expected-Last-Msg-Id"] = str(events[len(messages) - 1].id)
            try:
                check_size(client, subject, data, headers)
            except MessageTooLargeError as error:
                logger.warning("relay: %s; it goes without its data", error)
                self._shortened += 1
                data = encode_event(event, href=self._href.format(id=event.id))
                check_size(client, subject, data, headers)
            size += len(data)
            messages.append((subject, data, headers))
            if size > _BATCH_BYTES:
                break
        return messages

    def _find(self) -> _Cursor:
        """Where the stream stands. Raises :class:`RelayError` where it holds another log."""
        identity = self._store.info().identity
        last, position, event_id = self._connection.run(
            lambda client: self._stream.look(client, identity), timeout=self._timeout
        )
        head = self._store.head()
        if position > head:
            raise RelayError(
                f"the stream {self._stream.name} is at position {position} and the store at {head}"
                f" only, so it was restored or replaced: {REMEDY}"
            )
        if event_id is not None:
            there = next(self._store.read(Query(after=position - 1, to=position)), None)
            if there is None or str(there.id) != event_id:
                raise RelayError(
                    f"the stream {self._stream.name} holds another event at position {position}"
                    f" than the store, which was restored or replaced: {REMEDY}"
                )
        return _Cursor(position, last)


def _refusal(message: Msg, expected: int) -> str | None:
    """Why the stream did not take a message as the one of that sequence."""
    if not message.data:
        return "there is no stream"
    ack = msgspec.json.decode(message.data, type=_Ack)
    if ack.error is not None:
        return f"{ack.error.description} ({ack.error.err_code})"
    return None if ack.seq == expected else f"it is message {ack.seq}, not {expected}"
