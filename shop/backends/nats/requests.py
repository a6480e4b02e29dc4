"""Requests over NATS, for :mod:`shop.eventsourcing.buses.requests`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from shop.backends.nats.client import Message
from shop.backends.nats.connection import NatsConnection
from shop.backends.nats.listening import Listening
from shop.eventsourcing.buses.requests import Request


class NatsRequests:
    """Carries requests over a connection, which it does not own. Thread-safe."""

    def __init__(self, connection: NatsConnection, *, prefix: str = "") -> None:
        """``prefix`` is what all subjects begin with."""
        self._connection = connection
        self._prefix = prefix

    def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        """As :meth:`RequestBus.request`."""
        return self._connection.request(self._prefix + subject, data, timeout=timeout).data

    def serve(
        self, subjects: Sequence[str], group: str, receive: Callable[[Request], None]
    ) -> NatsMembership:
        """As :meth:`RequestBus.serve`; ``receive`` is called on the loop."""

        def deliver(message: Message) -> None:
            receive(NatsRequest(self._connection, message))

        prefixed = [self._prefix + subject for subject in subjects]
        listening = self._connection.listen_all(prefixed, deliver, group=group)
        return NatsMembership(self._connection, listening)


class NatsRequest:
    """As :class:`Request`."""

    def __init__(self, connection: NatsConnection, message: Message) -> None:
        self._connection = connection
        self._message = message

    @property
    def data(self) -> bytes:
        """As :attr:`Request.data`."""
        return self._message.data

    def answer(self, data: bytes) -> None:
        """As :meth:`Request.answer`."""
        client = self._connection.client
        if client is not None and self._message.reply:
            client.post(self._message.reply, data)


class NatsMembership:
    """As :class:`Membership`."""

    def __init__(self, connection: NatsConnection, listening: Listening) -> None:
        self._connection = connection
        self._listening = listening
        self._leaving: asyncio.Task[None] | None = None
        self._left = threading.Event()

    def leave(self) -> None:
        """As :meth:`Membership.leave`."""
        self._connection.call(self._begin)

    def close(self, timeout: float) -> None:
        """As :meth:`Membership.close`."""
        self.leave()
        self._left.wait(timeout)

    def _begin(self) -> None:
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        try:
            await self._connection.drain(self._listening)
        finally:
            self._left.set()
