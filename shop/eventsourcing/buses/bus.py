"""The event bus port: tells subscribers that events were stored.

The store is the truth, the bus is the doorbell. A subscriber that must not miss an event reads the
store when the bell rings, and now and then without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol, Self

import msgspec

from shop.eventsourcing.events.event import Event, EventData

_PATTERN = re.compile(r"(?:(?:\*|[a-z0-9_]+)\.)*(?:\*|>|[a-z0-9_]+)")


class NamePatterns:
    """A set of event names: exact ones, and patterns. Immutable.

    ``*`` stands for one word of a name (``shop.order.*``), and ``>`` at the end for one or more
    (``shop.>``). An empty sequence stands for all names.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ``ValueError`` for what is no name and no pattern."""
        for pattern in patterns:
            if not _PATTERN.fullmatch(pattern):
                raise ValueError(f"{pattern!r} is no name of events, nor a pattern of names")
        self.patterns = tuple(dict.fromkeys(patterns))
        self._names = frozenset(patterns)
        self._wild = re.compile(
            "|".join(
                re.escape(pattern).replace(r"\*", r"[^.]+").replace(">", ".+")
                for pattern in patterns
                if "*" in pattern or ">" in pattern
            )
            or r"(?!)"
        )

    def __contains__(self, name: str) -> bool:
        return not self._names or name in self._names or self._wild.fullmatch(name) is not None


class BusStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a bus of events or commands is doing, or what works for it.

    ``problem`` says what is wrong with it; the store is not affected.
    """

    problem: str | None = None
    figures: dict[str, float] = {}
    """What can be counted and measured, by name; the names of what only grows end in ``_total``."""


class Subscription(Protocol):
    """A bounded queue of events that one subscriber empties. Closing it ends every wait on it."""

    @property
    def lost(self) -> int:
        """How many events found the queue full and were dropped."""
        ...

    @property
    def remote(self) -> int:
        """How many of the events taken so far, or lost, were announced by other processes.

        Nobody here has verified that such an event is stored: the store tells.
        """
        ...

    @property
    def closed(self) -> bool:
        """Whether it was closed; events that were queued before may still be taken."""
        ...

    def take(self, timeout: float | None = None) -> list[Event[EventData]]:
        """All queued events, oldest first, waiting for one if there is none.

        Empty when ``timeout`` seconds went by without one, after :meth:`wake`, or when the
        subscription is closed and everything was taken.
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
    """Hands each published event to everybody who subscribed to its name. Thread-safe.

    At most once: what is lost on the way is not sent again.
    """

    def publish(self, events: Sequence[Event[EventData]]) -> None:
        """Queue the events for their subscribers, in order, without ever waiting for one."""
        ...

    def subscribe(self, *names: str, group: str = "", capacity: int = 1024) -> Subscription:
        """A subscription to events of these names, or to all when none is given.

        A name may be a pattern, see :class:`NamePatterns`. Of all subscriptions of the same
        ``group``, in whatever process, one gets each event. At most ``capacity`` events wait in it;
        a further one is dropped and counted in ``lost``.
        """
        ...

    def status(self) -> BusStatus:
        """How the bus is doing."""
        ...

    def close(self) -> None:
        """Close all subscriptions; idempotent. Publishing afterwards does nothing."""
        ...


class LocalBus(EventBus, Protocol):
    """The bus within a process, to which a bus between processes hands what it receives."""

    def publish(self, events: Sequence[Event[EventData]], *, remote: bool = False) -> None:
        """As :meth:`EventBus.publish`; ``remote`` tells that another process published them."""
        ...
