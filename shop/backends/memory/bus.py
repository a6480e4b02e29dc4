"""The thread-safe in-memory bus."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from shop.eventsourcing.buses.bus import BusStatus, LocalBus, NamePatterns
from shop.eventsourcing.buses.event_queue import EventQueue
from shop.eventsourcing.events.event import Event, EventData


class _Subscriber(NamedTuple):
    queue: EventQueue
    names: NamePatterns


class MemoryEventBus(LocalBus):
    """Hands events to the subscribers of this process, in the publishing thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced, never changed, so that publishing needs no lock.
        self._subscribers: tuple[_Subscriber, ...] = ()
        self._groups: dict[str, tuple[_Subscriber, ...]] = {}
        self._turns = count()
        self._closed = False

    def publish(self, events: Sequence[Event[EventData]], *, remote: bool = False) -> None:
        for queue, names in self._subscribers:
            wanted = [event for event in events if event.name in names]
            if wanted:
                queue.put(wanted, remote=remote)
        for members in self._groups.values():
            for event in events:
                wanting = [member.queue for member in members if event.name in member.names]
                if wanting:
                    turn = next(self._turns) % len(wanting)
                    in_turn = wanting[turn:] + wanting[:turn]
                    chosen = next((queue for queue in in_turn if queue.room), in_turn[0])
                    chosen.put([event], remote=remote)

    def subscribe(self, *names: str, group: str = "", capacity: int = 1024) -> EventQueue:
        queue = EventQueue(capacity, self._remove)
        subscriber = _Subscriber(queue, NamePatterns(names))
        with self._lock:
            if not self._closed and group:
                members = self._groups.get(group, ())
                self._groups = {**self._groups, group: (*members, subscriber)}
            elif not self._closed:
                self._subscribers += (subscriber,)
        if self._closed:
            queue.close()
        return queue

    def status(self) -> BusStatus:
        """Nothing can be wrong with it."""
        return BusStatus()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            subscribers = [*self._subscribers, *sum(self._groups.values(), ())]
        for queue, _ in subscribers:
            queue.close()

    def _remove(self, queue: EventQueue) -> None:
        with self._lock:
            self._subscribers = tuple(s for s in self._subscribers if s.queue is not queue)
            left = {
                group: tuple(s for s in members if s.queue is not queue)
                for group, members in self._groups.items()
            }
            self._groups = {group: members for group, members in left.items() if members}
