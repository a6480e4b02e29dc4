"""An application: its modules, projections, workflows and reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from shop.application.errors import ApplicationError
from shop.application.read import Read
from shop.eventsourcing import EventData, Module, Projection, Registry, Workflow, WorkflowList
from shop.eventsourcing.commands.module import aggregate_classes, command_registry
from shop.eventsourcing.suggestions import near_or_known

_KINDS = {"modules": Module, "projections": Projection, "workflows": Workflow, "reads": Read}
"""What the lists of an application have in them."""


class Application(msgspec.Struct, frozen=True):
    """An author's modules, projections and workflows, and what of it can be read over HTTP.

    Commands need not be listed: all of the modules are served. ``title`` and ``version`` are those
    of the HTTP interface.

    Raises :class:`ApplicationError`, with all that is wrong, where these do not fit together: a
    workflow or a read needs something that is not there, or two have one name.
    """

    modules: Sequence[Module]
    projections: Sequence[Projection] = ()
    workflows: Sequence[Workflow[Any]] = ()
    reads: Sequence[Read] = ()
    title: str = "Application"
    version: str = "0"

    def __post_init__(self) -> None:
        for field in _KINDS:
            parts = getattr(self, field)
            if not isinstance(parts, Iterable):
                raise ApplicationError([f"{field} is a list, not {parts!r}"])
            msgspec.structs.force_setattr(self, field, tuple(parts))
        mistakes = list(_wrong_kinds(self)) or list(_mistakes(self))
        if mistakes:
            raise ApplicationError(mistakes)

    @property
    def registry(self) -> Registry[EventData]:
        """All events of the modules."""
        return Registry([event for module in self.modules for event in module.events])


def _wrong_kinds(application: Application) -> Iterator[str]:
    """What is something else than it should be."""
    for field, kind in _KINDS.items():
        for part in getattr(application, field):
            if not isinstance(part, kind):
                what = f"the class {part.__qualname__}" if isinstance(part, type) else repr(part)
                yield f"{field} has {what}, which is no {kind.__name__}"
            elif kind is Workflow and not hasattr(part, "instances"):
                yield f"{type(part).__qualname__} has no class of instances"


def _mistakes(application: Application) -> Iterator[str]:
    """What does not fit together."""
    try:
        aggregates = aggregate_classes(application.modules)
        events = [event.wire.name for event in application.registry]
        command_registry(application.modules)
    except ValueError as error:
        yield str(error)
        return
    projections = [projection.name for projection in application.projections]
    yield from _twice("projections", projections)
    yield from _twice("workflows", [workflow.name for workflow in application.workflows])
    yield from _twice("reads of the path", [read.form for read in application.reads])
    yield from _twice("reads by the function", [read.name for read in application.reads])
    shown = [read.aggregate for read in application.reads if read.aggregate is not None]
    yield from _twice("reads of the aggregate", shown)
    for projection in application.projections:
        if not isinstance(projection, WorkflowList):
            yield from _unknown_events(projection.name, projection.event_names, events)
    for workflow in application.workflows:
        if workflow.name not in aggregates:
            yield (
                f"{workflow.name} is a workflow, and no module has {workflow.instances.__name__},"
                " the aggregate of its instances"
            )
        else:
            yield from _unknown_events(workflow.name, workflow.event_names, events)
    lists = [p for p in application.projections if p.name == WorkflowList.name]
    if not all(isinstance(listing, WorkflowList) for listing in lists):
        yield f"{WorkflowList.name} is the name of WorkflowList, and of no other projection"
    elif application.workflows and not lists:
        yield "with workflows, WorkflowList() must be among the projections"
    for read in application.reads:
        if read.projection is not None and read.projection not in projections:
            yield (
                f"{read.path} answers from {read.projection}, and there is no such projection"
                f" ({near_or_known(read.projection, projections)})"
            )
        if read.aggregate is not None and read.aggregate not in aggregates:
            yield (
                f"{read.path} shows {read.aggregate}, and no module has such an aggregate"
                f" ({near_or_known(read.aggregate, aggregates)})"
            )


def _twice(what: str, names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"there are {count} {what} {name}"


def _unknown_events(name: str, wanted: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    for event in sorted(set(wanted).difference(known)):
        yield (
            f"{name} follows {event}, and no module has an aggregate that applies it"
            f" ({near_or_known(event, known)})"
        )
