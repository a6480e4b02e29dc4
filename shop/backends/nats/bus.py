"""The event bus over NATS: what is published here is heard in other processes, at most once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from nats.aio.client import Client

from shop.backends.nats.client import Message, check_size
from shop.backends.nats.connection import NatsConnection
from shop.backends.nats.listening import Listening
from shop.eventsourcing.buses.bus import BusStatus, LocalBus, NamePatterns, Subscription
from shop.eventsourcing.buses.event_queue import EventQueue
from shop.eventsourcing.errors import BusClosedError, EventDecodeError, MessageTooLargeError
from shop.eventsourcing.events.envelope import (
    EnvelopeError,
    OmittedDataError,
    decode_event,
    encode_event,
)
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.registry import Registry

logger = logging.getLogger(__name__)

OUTBOX_BYTES = 4 * 1024 * 1024
"""How much may wait for a server that is away or slow, before the oldest of it is dropped."""

_OVERHEAD = 200
"""About what a short message takes in memory beside its data, in bytes."""

_BATCH = 100
"""How many messages are sent before the loop sees to anything else."""


class NatsEventBus:
    """Hands what is published to ``local``, and over NATS to the buses of other processes.

    The subject of an event is ``<prefix>.live.<name of the event>``. What this process publishes
    reaches its own subscribers without NATS and once, except for groups: which member gets an event
    is decided by the server. A server that is away, slow or silent makes no caller wait: what is
    published meanwhile waits in ``OUTBOX_BYTES`` of memory, the newest of it.

    ``connection`` must not echo. The bus closes ``connection`` and ``local``.
    """

    def __init__(
        self,
        connection: NatsConnection,
        local: LocalBus,
        registry: Registry[EventData],
        *,
        prefix: str = "shop",
    ) -> None:
        self._connection = connection
        self._local = local
        self._registry = registry
        self._subject = f"{prefix}.live."
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)
        self._outbox: deque[tuple[str, bytes]] = deque()
        self._outbox_bytes = 0
        self._sending = False
        self._listening: Listening | None = None
        self._groups: NatsConnection | None = None
        self._group_queues: list[EventQueue] = []
        self._closed = False
        self._sent = 0
        self._heard = 0
        self._dropped = 0
        self._unreadable = 0
        connection.on_connect(self._send)

    def publish(self, events: Sequence[Event[EventData]]) -> None:
        """As :meth:`EventBus.publish`."""
        if self._closed:
            return
        self._local.publish(events)
        messages = [(event.name, encode_event(event)) for event in events]
        with self._lock:
            self._outbox.extend(messages)
            self._outbox_bytes += sum(len(data) + _OVERHEAD for _, data in messages)
            while self._outbox_bytes > OUTBOX_BYTES:
                _, data = self._outbox.popleft()
                self._outbox_bytes -= len(data) + _OVERHEAD
                self._dropped += 1
            if self._sending or not self._connection.connected:
                return
        self._send()

    def subscribe(self, *names: str, group: str = "", capacity: int = 1024) -> Subscription:
        """As :meth:`EventBus.subscribe`.

        Waits for the server to know of it, a second or two at most, if there is a connection.
        """
        if group:
            return self._subscribe_in_group(NamePatterns(names), group, capacity)
        subscription = self._local.subscribe(*names, capacity=capacity)
        with self._lock:
            listens = self._closed or self._listening is not None
        if not listens:
            hearing = _Hearing(self._read, partial(self._local.publish, remote=True))
            try:
                listening = self._connection.listen(f"{self._subject}>", hearing.hear)
            except BusClosedError:  # by another thread, which closes the subscription as well
                return subscription
            with self._lock:
                surplus = self._listening is not None
                self._listening = self._listening or listening
            if surplus:
                listening.close()
        return subscription

    def status(self) -> BusStatus:
        """As :meth:`EventBus.status`."""
        connection = self._connection
        return BusStatus(
            problem=connection.problem,
            figures={
                "connected": connection.connected,
                "connects_total": connection.connects,
                "sent_total": self._sent,
                "heard_total": self._heard,
                "dropped_total": self._dropped,
                "unreadable_total": self._unreadable,
                "outbox_bytes": self._outbox_bytes,
            },
        )

    def close(self, timeout: float = 1.5) -> None:
        """As :meth:`EventBus.close`; what was published is sent first, if ``timeout`` allows."""
        until = time.monotonic() + timeout
        with self._lock:
            self._closed = True
            queues = tuple(self._group_queues)
            if self._connection.connected or not self._connection.connects:
                self._emptied.wait_for(lambda: not (self._outbox or self._sending), timeout / 2)
        for queue in queues:
            queue.close()
        self._local.close()
        self._connection.close(max(0.1, until - time.monotonic()))

    def _send(self) -> None:
        self._connection.spawn(self._empty_outbox)

    async def _empty_outbox(self, client: Client) -> None:
        with self._lock:
            if self._sending:
                return
            self._sending = True
        try:
            while batch := self._next_batch():
                for name, data in batch:
                    subject = self._subject + name
                    try:
                        check_size(client, subject, data)
                        await client.publish(subject, data)
                        self._sent += 1
                    except MessageTooLargeError as error:
                        self._dropped += 1
                        logger.warning("NATS: %s; other processes will find it in the store", error)
                await asyncio.sleep(0)  # nats-py lets nobody else run as long as it has room
        finally:
            with self._lock:
                self._sending = False
                self._emptied.notify_all()

    def _read(self, message: Message) -> Event[EventData] | None:
        self._heard += 1
        try:
            return decode_event(self._registry, message.data)
        except (EnvelopeError, EventDecodeError, OmittedDataError) as error:
            self._unreadable += 1
            if self._unreadable == 1:
                logger.warning(
                    "NATS: a message under %s was left out, and more may be: %s",
                    message.subject,
                    error,
                )
            return None

    def _next_batch(self) -> list[tuple[str, bytes]]:
        """What to send next. After an empty batch, the next ``publish`` starts sending again."""
        with self._lock:
            batch = [self._outbox.popleft() for _ in range(min(len(self._outbox), _BATCH))]
            self._outbox_bytes -= sum(len(data) + _OVERHEAD for _, data in batch)
            self._sending = bool(batch)
            return batch

    def _subscribe_in_group(self, names: NamePatterns, group: str, capacity: int) -> Subscription:
        listening: Listening | None = None

        def end(queue: EventQueue) -> None:
            with self._lock:
                if queue in self._group_queues:
                    self._group_queues.remove(queue)
                ends_with_connection = self._closed
            if not ends_with_connection and listening is not None:
                listening.close()

        queue = EventQueue(capacity, end)
        with self._lock:
            if self._groups is None and not self._closed:
                self._groups = self._connection.another("groups", echo=True)
            connection = self._groups
            self._group_queues.append(queue)
        if self._closed or connection is None:
            queue.close()
            return queue
        connection.wait_connected(1.0 if self._connection.connected else 0.0)
        hearing = _Hearing(self._read, partial(queue.put, remote=True))
        subjects = [self._subject + pattern for pattern in names.patterns or (">",)]
        with suppress(BusClosedError):  # by another thread, which closes the queue as well
            listening = connection.listen_all(subjects, hearing.hear, group=group)
        return queue


class _Hearing:
    """Hands over all events of one turn of the loop together, which is cheaper.

    On the loop only.
    """

    def __init__(
        self,
        read: Callable[[Message], Event[EventData] | None],
        hand_over: Callable[[Sequence[Event[EventData]]], None],
    ) -> None:
        self._read = read
        self._hand_over = hand_over
        self._events: list[Event[EventData]] = []

    def hear(self, message: Message) -> None:
        event = self._read(message)
        if event is not None:
            if not self._events:
                asyncio.get_running_loop().call_soon(self._hand_on)
            self._events.append(event)

    def _hand_on(self) -> None:
        events, self._events = self._events, []
        self._hand_over(events)
