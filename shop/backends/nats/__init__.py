"""NATS: the bus between processes."""

from shop.backends.nats.bus import NatsEventBus
from shop.backends.nats.connection import Access, NatsConnection
from shop.backends.nats.relay import Relay, RelayError, StreamConfig

__all__ = ["Access", "NatsConnection", "NatsEventBus", "Relay", "RelayError", "StreamConfig"]
