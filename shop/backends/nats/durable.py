"""Durable subscriptions to the stream: they go on where they acknowledged, at least once."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from shop.backends.nats.connection import NatsConnection
from shop.eventsourcing.buses.bus import NamePatterns
from shop.eventsourcing.errors import BusUnavailableError, NoAnswerError
from shop.eventsourcing.events.envelope import EnvelopeError, OmittedDataError, decode_event
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.stores.store import EventStore, Query

logger = logging.getLogger(__name__)

_MARGIN = timedelta(minutes=5)
"""How far the clock of the process that made an event and that of the server may be apart."""


class Delivery(NamedTuple):
    """An event from the stream, and what its acknowledgement is sent to."""

    event: Event[EventData]
    reply: str


class DurableSubscription:
    """Takes events from a stream and remembers, at the server, which were acknowledged.

    It begins after the position ``after``, or with the events since ``since``, when the server does
    not know its ``name`` yet; otherwise after what was acknowledged under that name. If ``names``
    differ from the last time, the new ones count for what comes after that. What is not
    acknowledged within ``ack_wait`` seconds is delivered again, perhaps out of order. Subscriptions
    of the same name, in whatever process, share the events. ``store`` has the events that came
    without their data; without it they raise :class:`OmittedDataError`.

    Belongs to one thread. It does not close the connection.
    """

    def __init__(
        self,
        connection: NatsConnection,
        registry: Registry[EventData],
        stream: str,
        name: str,
        *names: str,
        prefix: str = "shop",
        after: int = 0,
        since: datetime | None = None,
        ack_wait: float = 30.0,
        store: EventStore | None = None,
    ) -> None:
        """Raises ``ValueError`` for bad ``names``, which may be patterns, or a naive ``since``."""
        if since is not None and since.tzinfo is None:
            raise ValueError("since needs a time zone")
        self._connection = connection
        self._registry = registry
        self._stream = stream
        self._name = name
        self._subjects = [f"{prefix}.events.{p}" for p in NamePatterns(names).patterns or (">",)]
        self._after = after
        self._since = since
        self._ack_wait = ack_wait
        self._store = store
        self._fetched: deque[Msg] = deque()
        self._bound: tuple[Client, JetStreamContext.PullSubscription] | None = None
        self._problem: str | None = None

    def take(self, timeout: float, *, limit: int = 100) -> list[Delivery]:
        """The next events, at most ``limit``; empty when none came in ``timeout`` seconds.

        A server that is away is waited for as well, and so is a missing stream. Raises
        :class:`EventDecodeError` at an event that this program cannot read, again and again: it is
        not passed over.
        """
        until = time.monotonic() + timeout
        while True:
            left = until - time.monotonic()
            if not self._fetched and left > 0:
                self._fetch(left, limit)
            taken: list[Delivery] = []
            while self._fetched and len(taken) < limit:
                message = self._fetched[0]
                try:
                    event = self._event(message)
                except Exception:
                    if taken:
                        break  # those first
                    raise
                self._fetched.popleft()
                if event is None:
                    self._acknowledge([message.reply])
                else:
                    taken.append(Delivery(event, message.reply))
            if taken or left <= 0:
                return taken

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these are dealt with. If the server misses it, they are delivered again."""
        self._acknowledge([delivery.reply for delivery in deliveries])

    def forget(self) -> None:
        """Have the server forget the subscription, and where it is."""

        async def delete(client: Client) -> None:
            await client.jetstream().delete_consumer(self._stream, self._name)

        self._connection.run(delete, timeout=5.0)

    def close(self) -> None:
        """Take nothing any more; the server remembers where to go on. Idempotent."""
        self._fetched.clear()
        self._unbind()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _fetch(self, timeout: float, limit: int) -> None:
        async def fetch(client: Client) -> list[Msg]:
            try:
                subscription = await self._bind(client)
                return await subscription.fetch(limit, timeout=min(timeout, 1.0))
            except nats.errors.TimeoutError:
                return []

        began = time.monotonic()
        try:
            self._fetched.extend(self._connection.run(fetch, timeout=timeout + 5))
            self._problem = None
        except (BusUnavailableError, NoAnswerError) as error:
            # The server is away, or has forgotten stream or consumer: all may be made anew.
            self._unbind()
            if str(error) != self._problem:
                logger.warning("subscription %s: %s; trying again", self._name, error)
            self._problem = str(error)
            if not self._connection.connected:
                self._connection.wait_connected(min(timeout, 1.0))
        if time.monotonic() - began < 0.05 and not self._fetched:
            self._connection.pause(min(timeout, 0.1))

    async def _bind(self, client: Client) -> JetStreamContext.PullSubscription:
        if self._bound is not None and self._bound[0] is client:
            return self._bound[1]
        js = client.jetstream()
        try:
            known = (await js.consumer_info(self._stream, self._name)).config
        except NotFoundError:
            await js.add_consumer(self._stream, self._config())
        else:
            wanted = known.evolve(filter_subjects=self._subjects, ack_wait=self._ack_wait)
            if wanted != known:
                await js.add_consumer(self._stream, wanted)
        subscription = await js.pull_subscribe_bind(self._name, self._stream)
        self._bound = (client, subscription)
        return subscription

    def _unbind(self) -> None:
        bound, self._bound = self._bound, None

        async def unsubscribe(client: Client) -> None:
            if bound is not None and bound[0] is client:
                await bound[1].unsubscribe()

        self._connection.spawn(unsubscribe)

    def _config(self) -> api.ConsumerConfig:
        config = api.ConsumerConfig(
            durable_name=self._name,
            ack_wait=self._ack_wait,
            filter_subjects=self._subjects,
            deliver_policy=api.DeliverPolicy.ALL,
        )
        if self._since is not None:
            # The server knows when it got a message, which is later than the event.
            config.deliver_policy = api.DeliverPolicy.BY_START_TIME
            config.opt_start_time = self._since - _MARGIN
        elif self._after:
            # A message is never earlier in the stream than its event in the log.
            config.deliver_policy = api.DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = self._after + 1
        return config

    def _event(self, message: Msg) -> Event[EventData] | None:
        """The event of a message; ``None`` for one that is not asked for, or is no event."""
        try:
            event = decode_event(self._registry, message.data)
        except EnvelopeError:
            return None
        except OmittedDataError as error:
            if self._store is None:
                raise
            found = next(self._store.read(Query(ids=[error.event_id])), None)
            if found is None:
                raise
            event = found
        early = self._since is not None and event.time < self._since
        return None if early or event.position <= self._after else event

    def _acknowledge(self, replies: Sequence[str]) -> None:
        async def acknowledge(client: Client) -> None:
            for reply in replies:
                await client.publish(reply, b"+ACK")

        try:
            self._connection.run(acknowledge, timeout=5.0)
        except (BusUnavailableError, NoAnswerError):
            return
