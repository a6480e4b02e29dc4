"""nats-py's client, with what it lacks, and how it gets to a server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client

from shop.eventsourcing.errors import MessageTooLargeError

Headers = Mapping[str, str]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers are, and by what they know us. Nothing of it is ever logged."""

    servers: Sequence[str]
    """Each ``HOST:PORT``; any of them will do."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    nkey_seed_file: Path | None = None
    """A file with the seed of an NKey, that begins with ``SU``."""
    tls: bool = False
    """Refuse servers without TLS. One that demands TLS gets it in any case."""
    tls_ca: Path | None = None
    """A file of the authorities to trust instead of the system's."""
    tls_cert: Path | None = None
    """Our certificate, with its key in the same file unless ``tls_key`` names one."""
    tls_key: Path | None = None


class StrictClient(Client):
    """nats-py's, but it does not fall back to a connection in the clear.

    Nor does it close by half, with an error that nobody awaits, when the server is gone before
    everything was sent to it.
    """

    def __init__(self, *, tls: bool) -> None:
        super().__init__()
        self._demands_tls = tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._demands_tls:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise nats.errors.Error("the server has no TLS")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        try:
            await super()._close(status, do_cbs)
        except OSError:
            if do_cbs and self._closed_cb is not None:
                await self._closed_cb()


async def send(client: Client, subject: str, data: bytes, headers: Headers | None) -> None:
    """Send a message. Raises :class:`MessageTooLargeError`."""
    check_size(client, subject, data, headers)
    await client.publish(subject, data, headers=None if headers is None else {**headers})


def check_size(client: Client, subject: str, data: bytes, headers: Headers | None) -> None:
    """Raise :class:`MessageTooLargeError` for what the server would end the connection for.

    It counts the headers too, which nats-py does not.
    """
    size = len(data)
    if headers:
        size += 14 + sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())
    if size > client.max_payload:
        raise MessageTooLargeError(subject, size, client.max_payload)


def tls_context(access: Access) -> ssl.SSLContext | None:
    """What TLS is to be spoken with, none for the usual. Raises ``OSError`` for unusable files."""
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
    writer = getattr(client._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
