"""The publishing store: what is appended reaches the bus, in order, once it is durable."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from operator import itemgetter

from shop.eventsourcing.buses.bus import EventBus
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.stores.delegating import DelegatingStore
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit, Query
from shop.eventsourcing.stores.tail import Tail


class PublishingStore(DelegatingStore):
    """Wraps an event store so that everything appended through it is published on a bus.

    Threads whose appends end at the same time come here in any order; events are published in
    the order of their positions all the same. What was published last is kept, so that to read it
    needs no look into the store. Thread-safe. Closing it closes the wrapped store, but not the bus.
    """

    def __init__(self, store: EventStore, bus: EventBus) -> None:
        super().__init__(store)
        self._bus = bus
        self._lock = threading.Lock()
        self._ticket = 0
        self._under_way: set[int] = set()
        self._waiting: list[tuple[int, int, Sequence[Event[EventData]]]] = []
        self._published = 0
        self._tail = Tail()

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        """Do the appends, then publish those that were not known already."""
        ticket = 0
        outcomes: list[Commit | Exception] = []
        try:
            with self._lock:
                ticket = self._ticket = self._ticket + 1
                self._under_way.add(ticket)
            outcomes = super().append_each(commits)
        finally:
            try:
                self._end(ticket, commits, outcomes)
            except Exception:
                raise
            except BaseException:  # such as Ctrl-C, perhaps at the very beginning of it
                self._end(ticket, commits, outcomes)
                raise
        return outcomes

    def _end(
        self, ticket: int, commits: Sequence[NewCommit], outcomes: Sequence[Commit | Exception]
    ) -> None:
        """Note that an append has ended: others would wait for it. May be called again."""
        with self._lock:
            if ticket in self._under_way:
                waiting = [
                    (outcome.first, self._ticket, new.events)
                    for new, outcome in zip(commits, outcomes, strict=False)
                    if isinstance(outcome, Commit) and not outcome.replayed and new.events
                ]
                waiting = sorted([*self._waiting, *waiting], key=itemgetter(0, 1))
                under_way = self._under_way - {ticket}
                # In one statement: Ctrl-C comes before it or after it.
                self._waiting, self._under_way = waiting, under_way
            self._publish_what_is_in_order()

    def read(self, query: Query = Query()) -> Iterator[Event[EventData]]:
        newest = self._tail.find(query)
        return super().read(query) if newest is None else iter(newest)

    def close(self) -> None:
        self._tail = Tail()  # so that a read finds the store closed
        super().close()

    def _publish_what_is_in_order(self) -> None:
        """Publish the waiting commits that no append of this process can still come before.

        That is so for the commit that continues the last published one, and for one that has
        outlived all appends that were under way when it ended: those that began later get
        higher positions. (The gap before it is then some other process's.)
        """
        while self._waiting:
            first, latest_ticket, events = self._waiting[0]
            if first != self._published + 1 and any(t <= latest_ticket for t in self._under_way):
                return
            del self._waiting[0]
            stored = [event.at(first + i) for i, event in enumerate(events)]
            self._tail.extend(stored)
            self._bus.publish(stored)
            self._published = first + len(events) - 1
