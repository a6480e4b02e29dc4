"""The event bus port: tells whoever subscribed that events were stored.

The store is the truth, the bus is the doorbell. A subscriber that must not miss an event reads the
store when the bell rings, and now and then without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

from shop.eventsourcing.event import Event, EventData


class Subscription(Protocol):
    """A bounded queue of events that one subscriber empties. Closing it ends every wait on it."""

    @property
    def lost(self) -> int:
        """How many events found the queue full and were dropped."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it was closed; events that were queued before may still be taken."""
        ...

    def take(self, timeout: float | None = None) -> list[Event[EventData]]:
        """All queued events, oldest first, waiting for one if there is none.

        Empty when ``timeout`` seconds went by without one, or when the subscription is closed and
        everything was taken.
        """
        ...

    def wake(self) -> None:
        """End one wait under way, or the next one, with what there is."""
        ...

    def __iter__(self) -> Iterator[Event[EventData]]:
        """Each event, waiting for more, until the subscription is closed."""
        ...

    def close(self) -> None:
        """End the subscription; idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class EventBus(Protocol):
    """Hands each published event to everybody who subscribed to its name. Thread-safe."""

    def publish(self, events: Sequence[Event[EventData]]) -> None:
        """Queue the events for their subscribers, in order, without ever waiting for one."""
        ...

    def subscribe(self, *names: str, capacity: int = 1024) -> Subscription:
        """A subscription to events of these names, or to all when none is given.

        At most ``capacity`` events wait in it; a further one is dropped and counted in ``lost``.
        """
        ...

    def close(self) -> None:
        """Close all subscriptions; idempotent. Publishing afterwards does nothing."""
        ...
