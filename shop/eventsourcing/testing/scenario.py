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

With projections and workflows, time goes on when the test says so::

    shop = Scenario(
        MemoryEventStore,
        product,
        order,
        payment,
        models=MemoryModelStore(),
        projections=[OrderSummary()],
        workflows=[PaymentWorkflow(deadline=1800)],
    )
    shop.given(mouse, ProductCreated("Mouse", 5)).given(first, OrderPlaced(…))
    shop.after(seconds=1801).then(first, OrderCancelled("payment deadline missed"), mouse, …)
    assert shop.model(OrderEntry, first.id).status == "cancelled"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from difflib import ndiff
from typing import Any, NamedTuple, Self, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregates.aggregate import Aggregate, check_aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.commands.command import Command, CommandPayload, CommandResult
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.commands.module import Module, aggregate_classes
from shop.eventsourcing.errors import CommandRejected, EventSourcingError
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, new_id
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.events.types import check_collection
from shop.eventsourcing.models.model import M
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.projections.projection import Projection
from shop.eventsourcing.stores.store import EventStore, Query
from shop.eventsourcing.testing.background import Background
from shop.eventsourcing.testing.clock import Clock, ClockStore
from shop.eventsourcing.workflows.instance import Parked
from shop.eventsourcing.workflows.workflow import Workflow

A = TypeVar("A", bound=Aggregate)
E = TypeVar("E", bound=EventSourcingError)

Happening = tuple[AggregateRef, EventData]


class _Outcome(NamedTuple):
    """What came of a command, or of the time that passed."""

    events: Sequence[Event[EventData]] = ()
    result: CommandResult | None = None
    error: EventSourcingError | None = None

    @property
    def recorded(self) -> list[Happening]:
        return [(event.aggregate, event.data) for event in self.events]

    def told(self) -> str:
        """The same for people."""
        if self.error is not None:
            return f"it raised {type(self.error).__name__}: {self.error}"
        if not self.events:
            return "it recorded no event"
        return "\n".join(["it recorded", *_lines(self.recorded)])


class Scenario:
    """Commands carried out by the handlers of some modules, on a store of its own.

    ``open_store`` gets the registry of the modules' events and returns the empty store. With
    ``projections`` or ``workflows``, ``models`` is an empty store of read models: they follow when
    :meth:`after` or :meth:`model` is called, and only then. No time passes but in :meth:`after`.

    ``given``, ``when``, ``after`` and ``then…`` return the scenario, so that it goes on: what a
    command did is given to the next. Every ``then…`` speaks of the last ``when`` or ``after``
    and raises ``AssertionError`` where something else came of it; so does the next step after a
    command that failed, if no ``then…`` has spoken of it. For one thread.
    """

    def __init__(
        self,
        open_store: Callable[[Registry[EventData]], EventStore],
        *modules: Module,
        models: ModelStore | None = None,
        projections: Sequence[Projection] = (),
        workflows: Sequence[Workflow[Any]] = (),
    ) -> None:
        check_collection("projections", projections, Projection)
        check_collection("workflows", workflows, Workflow)
        aggregates = aggregate_classes(modules)
        for workflow in workflows:
            if workflow.name not in aggregates:
                raise ValueError(f"no module has {workflow.instances.__name__}, of {workflow.name}")
        registry = Registry(event for module in modules for event in module.events)
        self._clock = Clock(goes_on=False)
        self._store = ClockStore(open_store(registry), self._clock)
        self.aggregates = Aggregates(self._store)
        self._commands = CommandBus(self._store, self.aggregates, modules)
        self._workflows = {workflow.name for workflow in workflows}
        if models is None and (projections or workflows):
            raise ValueError("projections and workflows need a store of models: models=…")
        self._background: Background | None = None
        if models is not None:
            self._background = Background(
                self._store,
                models,
                self.aggregates,
                self._commands,
                projections=projections,
                workflows=workflows,
            )
        self._outcome: _Outcome | None = None
        self._spoken_of = False

    def given(self, aggregate: AggregateRef, *told: EventData | AggregateRef) -> Self:
        """Let these events have happened, after what happened to their aggregates before."""
        self._check_told()
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
        self._check_told()
        if aggregate is not None and aggregate.name != payload.aggregate:
            raise ValueError(f"{payload.wire.name} is for a {payload.aggregate}, not {aggregate}")
        command = Command.new(
            payload, aggregate.id if aggregate else None, expected_version=expected_version
        )
        self._spoken_of = False
        try:
            result = self._commands.dispatch(command)
            self._outcome = _Outcome(result.events, result)
        except EventSourcingError as error:
            self._outcome = _Outcome(error=error)
        return self

    def after(self, seconds: float = 0.0) -> Self:
        """Let this time pass, and projections and workflows do all that is to be done by then.

        Each timer fires when it is due, also one that is set meanwhile. What workflows have had
        done is for ``then``, without the events of their own instances. A projection's failure
        comes out as its :class:`~shop.eventsourcing.following.follower.FollowerError`, that of a
        workflow as ``AssertionError``.
        """
        self._check_told()
        if seconds < 0:
            raise ValueError("time does not go back")
        head, until = self._store.head(), self._clock.now() + timedelta(seconds=seconds)
        background = self._settle()
        while (due := background.due()) is not None and due <= until:
            self._clock.advance_to(due)
            self._settle()
        self._clock.advance_to(until)
        recorded = self._store.read(Query(after=head))
        self._outcome = _Outcome([e for e in recorded if e.aggregate.name not in self._workflows])
        return self

    def model(self, cls: type[M], id: UUID | str) -> M | None:
        """The read model of an id, when all projections have followed; ``None`` without one."""
        self._check_told()
        return self._settle().reader(cls).get(cls, id).value

    def events(self, aggregate: AggregateRef) -> Sequence[Event[EventData]]:
        """All that has happened to an aggregate."""
        return list(self._store.read(Query(refs=[aggregate])))

    def then(self, aggregate: AggregateRef, *told: EventData | AggregateRef) -> Self:
        """Exactly these events were recorded, in this order.

        Between aggregates, the order counts for a command alone: workflows keep to none.
        """
        self._compare(_tell(aggregate, *told))
        return self

    def then_nothing(self) -> Self:
        """Nothing failed, and no event was recorded."""
        self._compare([])
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
        outcome = self._succeeded()
        if outcome.result is None:
            raise ValueError("the last step was after(), and no command")
        return outcome.result

    def _version(self, ref: AggregateRef) -> int:
        latest = self._store.read(Query(refs=[ref], reverse=True, limit=1))
        return next((event.version for event in latest), 0)

    def _settle(self) -> Background:
        if self._background is None:
            raise ValueError("there are no projections and no workflows: give models=…, and them")
        head = self._store.head()
        self._background.settle()
        for event in self._store.read(Query(names=[Parked.wire.name], after=head)):
            assert isinstance(event.data, Parked)
            raise AssertionError(
                f"{event.aggregate} failed on {event.data.trigger}: {event.data.error}"
            )
        return self._background

    def _check_told(self) -> None:
        """Raise ``AssertionError`` where the last command failed, and no ``then…`` spoke of it."""
        if self._outcome is not None and self._outcome.error is not None and not self._spoken_of:
            raise AssertionError(
                f"the last command was not carried out, and nothing was expected of it:"
                f" {self._outcome.told()}"
            ) from self._outcome.error

    def _latest(self) -> _Outcome:
        if self._outcome is None:
            raise ValueError("there is no outcome yet: begin with when() or after()")
        self._spoken_of = True
        return self._outcome

    def _succeeded(self) -> _Outcome:
        outcome = self._latest()
        if outcome.error is not None:
            raise AssertionError(
                f"expected the command to be carried out, {outcome.told()}"
            ) from outcome.error
        return outcome

    def _failed_with(self, kind: type[E], wish: str) -> E:
        outcome = self._latest()
        if isinstance(outcome.error, kind):
            return outcome.error
        raise AssertionError(f"expected the command to {wish}, {outcome.told()}") from outcome.error

    def _compare(self, expected: list[Happening]) -> None:
        outcome = self._succeeded()
        recorded = outcome.recorded
        if outcome.result is None:
            expected, recorded = _by_aggregate(expected), _by_aggregate(recorded)
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


def _by_aggregate(told: Iterable[Happening]) -> list[Happening]:
    """What happened to each aggregate in its order, one after the other."""
    return sorted(told, key=lambda happening: str(happening[0]))


def _lines(told: Iterable[Happening]) -> list[str]:
    return [f"{ref} {data.wire.name} {msgspec.json.encode(data).decode()}" for ref, data in told]
