"""NATS: the bus between processes."""

from shop.backends.nats.bus import NatsEventBus
from shop.backends.nats.connection import NatsConnection
from shop.backends.nats.durable import Delivery, DurableSubscription
from shop.backends.nats.relay import Relay
from shop.backends.nats.requests import NatsRequests
from shop.backends.nats.stream import RelayError
from shop.backends.nats_settings import Access, StreamConfig

__all__ = [
    "Access",
    "Delivery",
    "DurableSubscription",
    "NatsConnection",
    "NatsEventBus",
    "NatsRequests",
    "Relay",
    "RelayError",
    "StreamConfig",
]
