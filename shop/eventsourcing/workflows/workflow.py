"""Workflows (process managers): what is to happen when something else has happened.

A workflow has an instance, an event-sourced aggregate, for each thing that it looks after. Its
handlers get events and record on the instance what they want done; the runtime does it::

    @aggregate("demo.reminder")
    class Reminder(WorkflowInstance):
        pass

    class RemindOfNotes(Workflow[Reminder]):
        instances = Reminder

        @reacts_to(Noted, begins=True)
        def noted(self, event: Event[Noted], reminder: Reminder, now: datetime) -> None:
            reminder.set_timer("remind", now + timedelta(days=1))

        @when_due("remind")
        def due(self, event: Event[TimerFired], reminder: Reminder, now: datetime) -> None:
            reminder.request(Remind(), reminder.id)
            reminder.complete()

Each instance handles each of its events once, in the order of the log; each command is carried out
once; each timer fires once: even if several processes run the workflow. A handler decides on the
event, the instance and the time alone, and may be called several times until the outcome of one
call is stored. When a handler raises, its instance is parked: it stands still, and its events wait,
until it is retried. Other instances go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregates.aggregate import check_names
from shop.eventsourcing.commands.command import CommandPayload
from shop.eventsourcing.errors import EventSourcingError
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.registry import check_named
from shop.eventsourcing.events.types import check_signature
from shop.eventsourcing.workflows.instance import (
    CommandRefused,
    CommandRequested,
    Phase,
    PhaseChanged,
    Retried,
    TimerFired,
    TimerSet,
    WorkflowInstance,
)

I = TypeVar("I", bound=WorkflowInstance)  # noqa: E741 - as the other type variables here
F = TypeVar("F", bound=Callable[..., None])
Correlation = Callable[[Event[Any]], UUID | None]
"""Returns the id of the instance that an event is for; ``None`` for none."""


_PARAMETERS = ("self", "event", "instance", "now")
"""Of every method that is marked."""


class _Reaction(msgspec.Struct, frozen=True):
    handler: Callable[[Any, Any, Any, datetime], None]
    begins: bool
    correlation: Correlation


def reacts_to(
    *event_classes: type[EventData],
    begins: bool = False,
    by: Correlation = lambda event: event.aggregate.id,
) -> Callable[[F], F]:
    """Mark a method of a workflow as the handler of events.

    ``by`` returns the id of the instance that handles an event, by default that of the event's
    aggregate. If there is no such instance yet, ``begins`` makes it; without, the event is ignored.
    """
    check_named("reacts_to", event_classes, EventData)
    check_signature(by, "event")

    def mark(method: F) -> F:
        check_signature(method, *_PARAMETERS)
        reaction = _Reaction(method, begins, by)
        method.__dict__.setdefault("reactions", {}).update(
            {cls.wire.name: reaction for cls in event_classes}
        )
        return method

    return mark


def when_due(timer: str) -> Callable[[F], F]:
    """Mark a method of a workflow as the handler of a timer."""

    def mark(method: F) -> F:
        check_signature(method, *_PARAMETERS)
        method.__dict__.setdefault("due", {})[timer] = method
        return method

    return mark


def when_refused(*commands: type[CommandPayload]) -> Callable[[F], F]:
    """Mark a method of a workflow as the handler of the refusals of commands."""
    check_named("when_refused", commands, CommandPayload)

    def mark(method: F) -> F:
        check_signature(method, *_PARAMETERS)
        method.__dict__.setdefault("refusals", {}).update(
            {cls.wire.name: method for cls in commands}
        )
        return method

    return mark


class WorkflowError(EventSourcingError):
    """A workflow has no handler for a timer or a refusal."""


class Workflow(Generic[I]):
    """Base of workflows. Stateless but for its configuration, so that several threads may run it.

    A subclass has the class variable ``instances``, its class of instances, and methods marked with
    :func:`reacts_to`, :func:`when_due` and :func:`when_refused`. All get the event, the instance,
    and the time by the store's clock. Defining it raises ``TypeError`` for a method that does not
    take these, and ``ValueError`` where the instances are none, nothing begins one, or two methods
    are for the same; a class without ``instances`` is a base of others. A new version of the
    program may react to further events, but only to those that come from then on.
    """

    instances: type[I]

    _reactions: ClassVar[Mapping[str, _Reaction]] = {}
    _due: ClassVar[Mapping[str, Callable[..., None]]] = {}
    _refusals: ClassVar[Mapping[str, Callable[..., None]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._reactions = {**cls._reactions, **_marked(cls, "reactions")}
        cls._due = {**cls._due, **_marked(cls, "due")}
        cls._refusals = {**cls._refusals, **_marked(cls, "refusals")}
        instances = getattr(cls, "instances", None)
        if instances is None:
            return  # a base of others
        if not issubclass(instances, WorkflowInstance) or not hasattr(instances, "kind"):
            raise ValueError(
                f"{cls.__qualname__}.instances is a class of WorkflowInstance, marked with"
                f" @aggregate, not {instances!r}"
            )
        check_names(instances, WorkflowInstance)
        begins = any(reaction.begins for reaction in cls._reactions.values())
        if not begins and cls.begins is Workflow.begins:
            raise ValueError(
                f"nothing begins an instance of {cls.__qualname__}: mark a method with"
                " @reacts_to(…, begins=True)"
            )

    @property
    def name(self) -> str:
        """The wire name of its instances."""
        return self.instances.kind

    @property
    def event_names(self) -> frozenset[str]:
        """The wire names of the events that it reacts to, those of its own instances included."""
        own = (TimerFired, CommandRequested, CommandRefused, Retried)
        return frozenset(self._reactions) | {cls.wire.name for cls in own}

    def instance_of(self, event: Event[EventData]) -> UUID | None:
        """The id of the instance that an event is for; ``None`` when it is for none."""
        reaction = self._reactions.get(event.name)
        if reaction is not None:
            return reaction.correlation(event)
        return event.aggregate.id if event.aggregate.name == self.name else None

    def begins(self, event: Event[EventData]) -> bool:
        """Whether the event makes an instance when there is none yet."""
        reaction = self._reactions.get(event.name)
        return reaction is not None and reaction.begins

    def react(self, event: Event[EventData], instance: I, now: datetime) -> None:
        """Call the handler of an event. Raises what the handler raises.

        Raises :class:`WorkflowError` when a timer or a refusal has no handler; of a timer that is
        already so when it is set.
        """
        match event.data:
            case TimerFired(timer):
                handler = self._due.get(timer)
                missing = _unexpected(timer)
            case CommandRefused(_, command, code, detail):
                handler = self._refusals.get(command)
                missing = f"{command} was refused ({code}: {detail})"
            case _:
                handler = self._reactions[event.name].handler
                missing = ""
        if handler is None:
            raise WorkflowError(missing)
        if not instance.exists:
            instance.record(PhaseChanged(Phase.RUNNING))
        handler(self, event, instance, now)
        for change in instance.changes:
            if isinstance(change, TimerSet) and change.timer not in self._due:
                raise WorkflowError(_unexpected(change.timer))


def _unexpected(timer: str) -> str:
    return f"no method is marked with @when_due({timer!r})"


def _marked(cls: type, mark: str) -> dict[str, Any]:
    """What the methods that a class defines itself are marked with, by name."""
    found: dict[str, Any] = {}
    for method in vars(cls).values():
        for name, value in getattr(method, mark, {}).items():
            if found.setdefault(name, value) is not value:
                raise ValueError(f"{cls.__qualname__} has two methods for {name}")
    return found
