"""Modules: the parts of a domain, and what all of them together have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregates.aggregate import Aggregate, check_aggregate
from shop.eventsourcing.aggregates.unit_of_work import UnitOfWork
from shop.eventsourcing.commands.command import CommandPayload
from shop.eventsourcing.events.event import EventData
from shop.eventsourcing.events.registry import Registry
from shop.eventsourcing.events.types import check_collection, check_signature
from shop.eventsourcing.suggestions import near_or_known

Handler = Callable[[Any, UUID, UnitOfWork], None]
"""Carries out a command: (payload, id of the addressed aggregate, unit of work).

It loads the addressed aggregate (always), and any others, from the unit of work and calls their
methods. It has no other effects, since a conflict runs it again. It raises
:class:`CommandRejected` to refuse. To find out which aggregates it loads, it may also run on
aggregates that are taken not to exist; what it does then is not used.
"""


class Module(msgspec.Struct, frozen=True):
    """One part of a domain: its aggregates, and its commands with their handlers.

    Its events are those that its aggregates apply. Raises ``TypeError`` for an aggregate without a
    name, and for a handler that does not take what handlers get.
    """

    aggregates: tuple[type[Aggregate], ...] = ()
    handlers: Mapping[type[CommandPayload], Handler] = {}

    def __post_init__(self) -> None:
        check_collection("aggregates", self.aggregates, type)
        for cls in self.aggregates:
            check_aggregate(cls)
        for payload, handler in self.handlers.items():
            if not issubclass(payload, CommandPayload):
                raise TypeError(f"handlers are of commands, and {payload.__qualname__} is none")
            check_signature(handler, "payload", "id", "work")

    @property
    def events(self) -> Sequence[type[EventData]]:
        """The events of its aggregates."""
        return [event_class for cls in self.aggregates for event_class in cls.appliers]


def aggregate_classes(modules: Iterable[Module]) -> Mapping[str, type[Aggregate]]:
    """The aggregates of some modules, by wire name. Raises ``ValueError`` where two have one."""
    classes: dict[str, type[Aggregate]] = {}
    for module in modules:
        for cls in module.aggregates:
            known = classes.setdefault(cls.kind, cls)
            if known is not cls:
                raise ValueError(
                    f"{cls.kind} is the name of {known.__qualname__} and of {cls.__qualname__}"
                )
    return classes


def command_registry(modules: Iterable[Module]) -> Registry[CommandPayload]:
    """The commands of some modules.

    Raises ``ValueError`` for one that is not named after an aggregate of theirs: it could never be
    carried out. (That it is the one that the handler loads is seen when it is.)
    """
    modules = tuple(modules)
    registry: Registry[CommandPayload] = Registry(
        payload_class for module in modules for payload_class in module.handlers
    )
    aggregates = aggregate_classes(modules)
    for payload_class in registry:
        if payload_class.aggregate not in aggregates:
            name = payload_class.wire.name
            raise ValueError(
                f"{name} is no name for a command, which is <aggregate>.<verb>: no module has an"
                f" aggregate {payload_class.aggregate}"
                f" ({near_or_known(payload_class.aggregate, aggregates)})"
            )
    return registry
