"""nats-py's client, with what it lacks, and how it gets to a server."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import PING_PROTO, Client
from nats.aio.subscription import Subscription

from shop.backends.nats_settings import Access
from shop.eventsourcing.errors import MessageTooLargeError


class Message(msgspec.Struct, frozen=True):
    """What was received. ``reply`` is the subject that an answer is published to, if any."""

    subject: str
    data: bytes
    headers: Mapping[str, str] = {}
    reply: str = ""


class _Posted(NamedTuple):
    subject: str
    data: bytes
    reply: str


class StrictClient(Client):
    """nats-py's client, which never falls back to a connection in the clear.

    Nor does it stop half-way through closing when the server is gone before everything was sent,
    or stop reading at a message whose subject or headers are no text. Besides, other threads may
    send with it (:meth:`post`), and messages come without a queue in between (:meth:`hear`). It is
    made on the loop that it is used on.
    """

    def __init__(self, *, tls: bool) -> None:
        super().__init__()
        self._demands_tls = tls
        self._loop = asyncio.get_running_loop()
        self._posted: deque[_Posted] = deque()
        self._woken = False
        self._sending: set[asyncio.Task[None]] = set()
        self._deliveries: dict[int, Callable[[Message], None]] = {}

    @property
    def listens(self) -> bool:
        """Whether it is connected, and reads what the server sends."""
        reading = self._reading_task
        return self.is_connected and reading is not None and not reading.done()

    def post(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Send a message soon, without waiting for anything. May be called by any thread.

        It is lost where the connection breaks. Raises :class:`MessageTooLargeError`.
        """
        check_size(self, subject, data)
        self._posted.append(_Posted(subject, data, reply))
        # Where the loop is woken already, it has not looked yet at what there is to send.
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._begin_sending)
            except RuntimeError:
                pass  # the loop has ended
            except BaseException:  # such as Ctrl-C: the next one is to wake it
                self._woken = False
                raise

    async def hear(
        self, subject: str, group: str, deliver: Callable[[Message], None]
    ) -> Subscription:
        """Subscribe, and have each message handed over as soon as it is read.

        nats-py's callbacks have a queue and a task for each subscription, which cost more than
        everything else that a message needs.
        """
        subscription = await self.subscribe(subject, queue=group)
        self._deliveries[subscription._id] = deliver
        return subscription

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._deliveries.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        subject_text, reply_text = subject.decode(errors="replace"), reply.decode(errors="replace")
        deliver = self._deliveries.get(sid)
        if deliver is None:
            await super()._process_msg(
                sid, subject_text.encode(), reply_text.encode(), data, headers
            )
            return
        known = await self._process_headers(headers) if headers else None
        try:
            deliver(Message(subject_text, data, known or {}, reply_text))
        except Exception as error:  # noqa: BLE001 - as nats-py does, which would read no more
            await self._error_cb(error)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            known: dict[str, str] | None = await super()._process_headers(headers)
        except (LookupError, ValueError):  # the server passes on whatever a client sends
            return None
        return known

    def _begin_sending(self) -> None:
        self._woken = False
        task = self._loop.create_task(self._send_posted())
        self._sending.add(task)  # the loop itself holds on to it but weakly
        task.add_done_callback(self._sending.discard)

    async def _send_posted(self) -> None:
        while self._posted:
            posted = self._posted.popleft()
            with suppress(OSError, nats.errors.Error):  # the connection broke
                await self.publish(posted.subject, posted.data, reply=posted.reply)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._demands_tls:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise nats.errors.Error("the server has no TLS")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # nats-py's overtakes what is to be sent, so that its `flush` would confirm too much.
        self._pongs.append(future or self._loop.create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():  # whose flush was given up: nats-py would fail
            self._pongs[0] = self._loop.create_future()
        await super()._process_pong()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        except OSError:
            if do_cbs and self._closed_cb is not None:
                await self._closed_cb()


def check_size(
    client: Client, subject: str, data: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Raise :class:`MessageTooLargeError` for what the server would end the connection for.

    It counts the headers too, which nats-py does not.
    """
    size = len(data)
    if headers:
        size += 14 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())
    if size > client.max_payload:
        raise MessageTooLargeError(subject, size, client.max_payload)


def tls_context(access: Access) -> ssl.SSLContext | None:
    """The context for TLS, ``None`` for nats-py's own. Raises ``OSError`` for unusable files."""
    if access.tls_ca is None and access.tls_cert is None:
        return None
    context = ssl.create_default_context(cafile=access.tls_ca)
    if access.tls_cert is not None:
        context.load_cert_chain(access.tls_cert, access.tls_key)
    return context


async def let_go(client: Client) -> None:
    """Close a client, without waiting for a server that takes nothing any more."""
    if client._transport is None:
        return  # it never came to connect, and would fail to close
    with suppress(OSError, nats.errors.Error, TimeoutError):
        await asyncio.wait_for(client.close(), 0.5)
    transport = _socket_of(client)
    if transport is not None:
        transport.abort()


def read_little(client: Client) -> None:
    """Have a client take at most 64 KiB at a time from its socket, of which nats-py parses 32.

    With asyncio's 256 KiB, the system maps and unmaps memory for each message, which slows down the
    other threads.
    """
    transport: Any = _socket_of(client)
    if transport is not None:
        transport.max_size = 64 * 1024


def _socket_of(client: Client) -> asyncio.WriteTransport | None:
    writer = getattr(client._transport, "_io_writer", None)
    return None if writer is None else writer.transport
