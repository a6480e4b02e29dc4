"""The relay: takes the log to a JetStream stream, every event once and in order."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from shop.backends.nats.client import check_size
from shop.backends.nats.connection import NatsConnection
from shop.backends.nats_settings import StreamConfig
from shop.eventsourcing.buses.bus import BusStatus, EventBus
from shop.eventsourcing.errors import BusError, MessageTooLargeError, StoreError
from shop.eventsourcing.events.envelope import encode_event
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.retry import Backoff
from shop.eventsourcing.stores.store import EventStore, Query
from shop.eventsourcing.threads import BackgroundThread

logger = logging.getLogger(__name__)

POSITION = "Shop-Position"
"""The header of a message that has its event's position."""
_NUMBER = re.compile("[0-9]{1,18}")
_BATCH = 500
"""Events that are published before the stream has acknowledged them, at most."""
_BATCH_BYTES = 4 * 1024 * 1024
"""The same in bytes: the message that goes beyond is the last of its batch."""
_OWNER = "shop-store"
"""In the stream's metadata: the identity of the store whose log it has."""
_AHEAD = "shop-ahead"
"""In the stream's metadata: by how much its last sequence is ahead of the last position.

Messages of others put it ahead, and so do deletions at the end of the stream. From this number the
position is known even when the stream is empty.
"""
_REMEDY = "delete the stream, or give the shop another prefix"


class RelayError(BusError):
    """The stream cannot take the log, or another relay is at work on it."""


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
        self._stream = stream
        self._href = href
        self._subject = f"{prefix}.events."
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
            subject, data = self._subject + event.name, encode_event(event)
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
            lambda client: self._look(client, identity), timeout=self._timeout
        )
        head = self._store.head()
        if position > head:
            raise RelayError(
                f"the stream {self._stream.name} is at position {position} and the store at {head}"
                f" only, so it was restored or replaced: {_REMEDY}"
            )
        if event_id is not None:
            there = next(self._store.read(Query(after=position - 1, to=position)), None)
            if there is None or str(there.id) != event_id:
                raise RelayError(
                    f"the stream {self._stream.name} holds another event at position {position}"
                    f" than the store, which was restored or replaced: {_REMEDY}"
                )
        return _Cursor(position, last)

    async def _look(self, client: Client, identity: UUID) -> tuple[int, int, str | None]:
        """Last sequence, last position, and the id of the event there, of the stream as it is."""
        stream = self._stream
        js = client.jetstream(timeout=self._timeout)
        try:
            info = await js.stream_info(stream.name)
        except NotFoundError:
            info = await js.add_stream(self._wanted(api.StreamConfig(stream.name), identity))
            logger.info("made the stream %s", stream.name)
        metadata = info.config.metadata or {}
        owner = metadata.get(_OWNER)
        wanted = self._wanted(info.config, identity)
        if owner is None and (info.state.last_seq or info.config.subjects != wanted.subjects):
            raise RelayError(
                f"the stream {stream.name} has other subjects than the shop's, or had messages"
                " before the shop came: give the shop another stream"
            )
        if owner not in {None, str(identity)}:
            raise RelayError(f"the stream {stream.name} belongs to another event store: {_REMEDY}")
        if wanted != info.config:
            info = await js.update_stream(wanted)
            logger.info("changed the stream %s to what was asked for", stream.name)
        ahead = int(metadata.get(_AHEAD, 0))
        last = info.state.last_seq
        if info.state.messages == 0:
            return last, last - ahead, None  # all were dropped by age or size, or there was none
        position, event_id = await self._last_event(js, info)
        if last - position != ahead:
            await js.update_stream(self._wanted(info.config, identity, ahead=last - position))
        return last, position, event_id

    async def _last_event(
        self, js: JetStreamContext, info: api.StreamInfo
    ) -> tuple[int, str | None]:
        """The position and the id of the newest event in the stream; 0 if it never had one."""
        name, state = self._stream.name, info.state
        for sequence in range(state.last_seq, state.first_seq - 1, -1):
            try:
                message = await js.get_msg(name, seq=sequence)
            except NotFoundError:
                continue
            headers = message.headers or {}
            if _NUMBER.fullmatch(headers.get(POSITION, "")) and "Nats-Msg-Id" in headers:
                return int(headers[POSITION]), headers["Nats-Msg-Id"]
        if state.first_seq > 1:
            raise RelayError(
                f"the stream {name} has only messages of others left, and does not tell any"
                f" more which events it had: {_REMEDY}"
            )
        return 0, None

    def _wanted(
        self, known: api.StreamConfig, identity: UUID, *, ahead: int | None = None
    ) -> api.StreamConfig:
        """What a stream with a configuration is to have, by default as far ``ahead`` as before."""
        stream = self._stream
        metadata = {_AHEAD: "0", **(known.metadata or {}), _OWNER: str(identity)}
        if ahead is not None:
            metadata[_AHEAD] = str(ahead)
        return known.evolve(
            subjects=[f"{self._subject}>"],
            storage=api.StorageType(stream.storage),
            num_replicas=stream.replicas,
            max_age=stream.max_age,
            max_bytes=stream.max_bytes,
            # The expected sequence keeps repeats out; a longer memory would only keep out what is
            # published again after messages were deleted.
            duplicate_window=min(1.0, stream.max_age or 1.0),
            metadata=metadata,
        )


def _refusal(message: Msg, expected: int) -> str | None:
    """Why the stream did not take a message as the one of that sequence."""
    if not message.data:
        return "there is no stream"
    ack = msgspec.json.decode(message.data, type=_Ack)
    if ack.error is not None:
        return f"{ack.error.description} ({ack.error.err_code})"
    return None if ack.seq == expected else f"it is message {ack.seq}, not {expected}"
