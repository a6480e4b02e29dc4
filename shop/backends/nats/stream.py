"""The stream that has the log: made and kept as wanted, and asked how far it is."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple
from uuid import UUID

from nats.aio.client import Client
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from shop.backends.nats_settings import StreamConfig
from shop.eventsourcing.errors import BusError

logger = logging.getLogger(__name__)

POSITION = "Shop-Position"
"""The header of a message that has its event's position."""
_NUMBER = re.compile("[0-9]{1,18}")
_OWNER = "shop-store"
"""In the stream's metadata: the identity of the store whose log it has."""
_AHEAD = "shop-ahead"
"""In the stream's metadata: by how much its last sequence is ahead of the last position.

Messages of others put it ahead, and so do deletions at the end of the stream. From this number the
position is known even when the stream is empty.
"""
REMEDY = "delete the stream, or give the shop another prefix"
"""What to do about a stream that is of another log."""


class RelayError(BusError):
    """The stream cannot take the log, or another relay is at work on it."""


class Standing(NamedTuple):
    """How far a stream is: its last sequence, and the position of the last event in it."""

    sequence: int
    position: int
    event_id: str | None
    """Of the event at that position; ``None`` where the stream has none."""


class EventStream:
    """A stream on the server. It is looked at on the loop only."""

    def __init__(self, config: StreamConfig, prefix: str, *, timeout: float) -> None:
        """``timeout``, in seconds, is how long the server may take for each answer."""
        self._config = config
        self._prefix = prefix
        self._timeout = timeout

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._config.name

    def subject(self, name: str) -> str:
        """What the event of a name is published as."""
        return f"{self._prefix}.events.{name}"

    async def look(self, client: Client, identity: UUID) -> Standing:
        """How far the stream is; it is made, or made as wanted, for the store of that identity.

        Raises :class:`RelayError` where it is somebody else's.
        """
        stream = self._config
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
            raise RelayError(f"the stream {stream.name} belongs to another event store: {REMEDY}")
        if wanted != info.config:
            info = await js.update_stream(wanted)
            logger.info("changed the stream %s to what was asked for", stream.name)
        ahead = int(metadata.get(_AHEAD, 0))
        last = info.state.last_seq
        if info.state.messages == 0:
            # All were dropped by age or size, or there never was one.
            return Standing(last, last - ahead, None)
        position, event_id = await self._last_event(js, info)
        if last - position != ahead:
            await js.update_stream(self._wanted(info.config, identity, ahead=last - position))
        return Standing(last, position, event_id)

    async def _last_event(
        self, js: JetStreamContext, info: api.StreamInfo
    ) -> tuple[int, str | None]:
        """The position and the id of the newest event in the stream; 0 if it never had one."""
        name, state = self._config.name, info.state
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
                f" more which events it had: {REMEDY}"
            )
        return 0, None

    def _wanted(
        self, known: api.StreamConfig, identity: UUID, *, ahead: int | None = None
    ) -> api.StreamConfig:
        """What a stream with a configuration is to have, by default as far ``ahead`` as before."""
        stream = self._config
        metadata = {_AHEAD: "0", **(known.metadata or {}), _OWNER: str(identity)}
        if ahead is not None:
            metadata[_AHEAD] = str(ahead)
        return known.evolve(
            subjects=[self.subject(">")],
            storage=api.StorageType(stream.storage),
            num_replicas=stream.replicas,
            max_age=stream.max_age,
            max_bytes=stream.max_bytes,
            # The expected sequence keeps repeats out; a longer memory would only keep out what is
            # published again after messages were deleted.
            duplicate_window=min(1.0, stream.max_age or 1.0),
            metadata=metadata,
        )
