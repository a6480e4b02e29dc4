"""NATS: the bus between processes."""

from shop.backends.nats.bus import NatsEventBus
from shop.backends.nats.connection import Access, NatsConnection

__all__ = ["Access", "NatsConnection", "NatsEventBus"]
