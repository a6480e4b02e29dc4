"""Given what happened, when a command comes, then this is recorded: tests that read like prose.

::

    mouse = AggregateRef("shop.product", new_id())
    shop = Scenario(MemoryEventStore, product, pricing)

    shop.given(mouse, ProductCreated("Mouse", 5)).when(Rename("Rat"), mouse).then(
        mouse, ProductRenamed("Rat")
    )
    shop.when(AdjustStock(-6, "sold"), mouse).then_rejected("stock-insufficient")

What happened, and what is expected, is told as one list: an aggregate, then its events, then
perhaps another aggregate and its events, and so on.

One aggregate alone needs no commands::

    mouse = aggregate_after(Product, ProductCreated("Mouse", 5))
    mouse.rename("Rat")
    assert mouse.changes == [ProductRenamed("Rat")]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import ndiff
from typing import Self, TypeVar

import msgspec

from shop.eventsourcing.aggregates.aggregate import Aggregate, check_aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.commands.command import Command, CommandPayload, CommandResult
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.commands.module import Module
from shop.eventsourcing.errors import CommandRejected, EventSourcingError
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, new_id
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.stores.store import EventStore, Query

A = TypeVar("A", bound=Aggregate)
E = TypeVar("E", bound=EventSourcingError)

Happening = tuple[AggregateRef, EventData]


class Scenario:
    """Commands carried out by the handlers of some modules, on a store of its own.

    ``open_store`` gets the registry of the modules' events and returns the empty store.
    ``given``, ``when`` and ``then…`` return the scenario, so that it goes on: what a command did
    is given to the next. Every ``then…`` speaks of the last command and raises
    ``AssertionError`` where something else came of it. For one thread.
    """

    def __init__(
        self, open_store: Callable[[Registry[EventData]], EventStore], *modules: Module
    ) -> None:
        store = open_store(Registry(event for module in modules for event in module.events))
        self.aggregates = Aggregates(store)
        self._store = store
        self._commands = CommandBus(store, self.aggregates, modules)
        self._outcome: CommandResult | EventSourcingError | None = None

    def given(self, aggregate: AggregateRef, *told: EventData | AggregateRef) -> Self:
        """Let these events have happened, after what happened to their aggregates before."""
        versions: dict[AggregateRef, int] = {}
        events: list[Event[EventData]] = []
        for ref, data in _tell(aggregate, *told):
            versions[ref] = versions.get(ref, self._version(ref)) + 1
            events.append(Event.new(ref, version=versions[ref], data=data))
        self._store.append(events)
        return self

    def when(
        self,
        payload: CommandPayload,
        aggregate: AggregateRef | None = None,
        *,
        expected_version: int | None = None,
    ) -> Self:
        """Carry out a command. Only one that creates its aggregate needs none.

        Errors of the toolkit are kept for ``then…``; any other error is a mistake of the handler's
        and comes out here.
        """
        if aggregate is not None and aggregate.name != payload.aggregate:
            raise ValueError(f"{payload.wire.name} is for a {payload.aggregate}, not {aggregate}")
        command = Command.new(
            payload, aggregate.id if aggregate else None, expected_version=expected_version
        )
        try:
            self._outcome = self._commands.dispatch(command)
        except EventSourcingError as error:
            self._outcome = error
        return self

    def then(self, aggregate: AggregateRef, *told: EventData | AggregateRef) -> Self:
        """The command recorded exactly these events, in this order."""
        self._compare(_tell(aggregate, *told), self.result)
        return self

    def then_nothing(self) -> Self:
        """The command was carried out and recorded no event."""
        self._compare([], self.result)
        return self

    def then_rejected(self, code: str) -> Self:
        """A business rule refused the command; its code is this one."""
        refusal = self._failed_with(CommandRejected, f"be rejected with {code}")
        if refusal.code != code:
            raise AssertionError(
                f"expected the command to be rejected with {code}, it was with {refusal}"
            ) from refusal
        return self

    def then_raised(self, kind: type[EventSourcingError]) -> Self:
        """The command ended in an error of this kind, such as ``AggregateNotFoundError``."""
        self._failed_with(kind, f"raise {kind.__name__}")
        return self

    @property
    def result(self) -> CommandResult:
        """What the last command did. ``AssertionError`` where it failed."""
        outcome = self._latest()
        if isinstance(outcome, CommandResult):
            return outcome
        raise AssertionError(
            f"expected the command to be carried out, {_told(outcome)}"
        ) from outcome

    def _version(self, ref: AggregateRef) -> int:
        latest = self._store.read(Query(refs=[ref], reverse=True, limit=1))
        return next((event.version for event in latest), 0)

    def _latest(self) -> CommandResult | EventSourcingError:
        if self._outcome is None:
            raise ValueError("there is no outcome yet: begin with when()")
        return self._outcome

    def _failed_with(self, kind: type[E], wish: str) -> E:
        outcome = self._latest()
        if isinstance(outcome, kind):
            return outcome
        cause = outcome if isinstance(outcome, EventSourcingError) else None
        raise AssertionError(f"expected the command to {wish}, {_told(outcome)}") from cause

    @staticmethod
    def _compare(expected: list[Happening], result: CommandResult) -> None:
        recorded = [(event.aggregate, event.data) for event in result.events]
        if recorded != expected:
            difference = "\n".join(ndiff(_lines(expected), _lines(recorded)))
            raise AssertionError(f"other events were recorded (-expected +recorded):\n{difference}")


def aggregate_after(cls: type[A], *events: EventData) -> A:
    """An aggregate with a new id, to which these events have happened, and nothing recorded."""
    check_aggregate(cls)
    aggregate = cls(new_id())
    for version, data in enumerate(events, 1):
        aggregate.replay(Event.new(aggregate.ref, version=version, data=data))
    return aggregate


def _tell(*told: EventData | AggregateRef) -> list[Happening]:
    pairs: list[Happening] = []
    aggregate: AggregateRef | None = None
    for item in told:
        if isinstance(item, AggregateRef):
            aggregate = item
        elif aggregate is None:
            raise TypeError("begin with the aggregate that the events happened to")
        else:
            pairs.append((aggregate, item))
    return pairs


def _lines(told: Iterable[Happening]) -> list[str]:
    return [f"{ref} {data.wire.name} {msgspec.json.encode(data).decode()}" for ref, data in told]


def _told(outcome: CommandResult | EventSourcingError) -> str:
    """What came of a command, for people."""
    if isinstance(outcome, EventSourcingError):
        return f"it raised {type(outcome).__name__}: {outcome}"
    if not outcome.events:
        return "it recorded no event"
    events = _lines((event.aggregate, event.data) for event in outcome.events)
    return "\n".join(["it recorded", *events])
