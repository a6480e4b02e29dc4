"""Aggregates: state that changes only by events.

A method of an aggregate checks the rules and *records* events; an *applier* changes the state and
never fails, since what it is told has happened::

    @aggregate("demo.note")
    class Note(Aggregate):
        text: str = ""

        def write(self, text: str) -> None:
            if text != self.text:
                self.record(Noted(text))

        @applies(Noted)
        def _noted(self, data: Noted) -> None:
            self.text = data.text
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from inspect import get_annotations
from typing import Any, ClassVar, Self, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.errors import EventSourcingError
from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.events.registry import check_named
from shop.eventsourcing.events.types import check_signature, check_types

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")

A = TypeVar("A", bound="Aggregate")
F = TypeVar("F", bound=Callable[..., None])


class Aggregate(msgspec.Struct):
    """Base of aggregates: declare the state as typed fields with defaults. Not thread-safe.

    Every load gives an object of its own, so no two threads meet in one. The fields are what the
    cache and snapshots hold: any type that msgspec encodes will do, declared in full. An untyped
    ``list`` of ``Decimal`` would come back as one of ``str``. A default may be ``[]`` or ``{}``:
    each object gets its own.
    """

    id: UUID
    version: int = 0
    """Of the last event, recorded ones included; 0 before the first."""
    changes: list[EventData] = []
    """What was recorded since the aggregate was loaded, oldest first."""

    kind: ClassVar[str]
    """The aggregate's wire name, such as ``shop.order``."""
    shape: ClassVar[str]
    """Stands for the fields of the class; a snapshot of another shape is not used."""
    appliers: ClassVar[Mapping[type[EventData], Callable[[Any, Any], None]]]

    @property
    def ref(self) -> AggregateRef:
        """The name and id of this aggregate."""
        return AggregateRef(self.kind, self.id)

    @property
    def exists(self) -> bool:
        """Whether anything has happened to it yet."""
        return self.version > 0

    @property
    def stored_version(self) -> int:
        """The version without what was recorded since the aggregate was loaded."""
        return self.version - len(self.changes)

    def record(self, data: EventData) -> None:
        """Let an event happen: apply it, and keep it until the aggregate is saved."""
        self._apply(data)
        self.changes.append(data)

    def replay(self, event: Event[EventData]) -> None:
        """Apply a stored event, which must be the next one."""
        if event.version != self.version + 1:
            raise EventSourcingError(
                f"event {event.id} has version {event.version}, {self.ref} is at {self.version}"
            )
        self._apply(event.data)

    def _apply(self, data: EventData) -> None:
        try:
            applier = self.appliers[type(data)]
        except KeyError:
            raise EventSourcingError(
                f"{type(self).__qualname__} has no applier for {data.wire.name}"
            ) from None
        applier(self, data)
        self.version += 1

    def encode(self) -> bytes:
        """The state, for :meth:`decode`."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, state: bytes) -> Self:
        """An aggregate of its own from an encoded state."""
        return msgspec.msgpack.decode(state, type=cls)


def applies(event_class: type[EventData]) -> Callable[[F], F]:
    """Mark a method of an aggregate as the applier of an event.

    Raises ``TypeError`` for one that does not take the event's data.
    """
    check_named("applies", [event_class], EventData)

    def mark(method: F) -> F:
        check_signature(method, "self", "data")
        method.__dict__["applies"] = (*method.__dict__.get("applies", ()), event_class)
        return method

    return mark


def aggregate(name: str) -> Callable[[type[A]], type[A]]:
    """Give an aggregate class its wire name and collect its appliers, inherited ones too.

    Raises ``ValueError`` for a name that is none, and ``TypeError`` for a class that is no
    :class:`Aggregate`, has a field without a default, or one or a method with a name of that.
    """
    if not _NAME.fullmatch(str(name)):
        raise ValueError(
            f"{name!r} is no name of an aggregate: that is lower-case words joined by dots"
        )

    def decorate(cls: type[A]) -> type[A]:
        if not issubclass(cls, Aggregate):
            raise TypeError(f"{cls.__qualname__} is no Aggregate: class {cls.__name__}(Aggregate)")
        check_names(cls, Aggregate)
        for field in msgspec.structs.fields(cls):
            if field.required and field.name != "id":
                raise TypeError(
                    f"{cls.__qualname__}.{field.name} needs a default, which is the state before"
                    " anything has happened"
                )
        appliers: dict[type[EventData], Callable[[Any, Any], None]] = {}
        for base in reversed(cls.__mro__):
            appliers |= _appliers(base)
        cls.kind = name
        cls.appliers = appliers
        cls.shape = shape_of(cls)
        return cls

    return decorate


def check_aggregate(cls: type[Aggregate]) -> None:
    """Raise ``TypeError`` for a class that is not marked as an aggregate."""
    if not hasattr(cls, "kind"):
        raise TypeError(f"{cls.__qualname__} has no name: decorate it with @aggregate")


def ref_of(cls: type[Aggregate], id: UUID) -> AggregateRef:
    """The reference of an aggregate.

    Raises ``TypeError`` for a class that is not marked as an aggregate, and for an id of another
    type: one store would not find it, and another would keep it as a different aggregate.
    """
    check_aggregate(cls)
    check_types(UUID, id=id)
    return AggregateRef(cls.kind, id)


def check_names(cls: type[Aggregate], base: type[Aggregate]) -> None:
    """Raise ``TypeError`` where a class redefines a name of its base, which the toolkit uses."""
    taken = {*dir(base), *get_annotations(base)}
    for name in (*vars(cls), *get_annotations(cls)):
        if name in taken and not name.startswith("_"):
            raise TypeError(f"{cls.__qualname__}.{name} is the toolkit's: give it another name")


def _appliers(cls: type) -> dict[type[EventData], Callable[[Any, Any], None]]:
    """The appliers that a class defines itself."""
    appliers: dict[type[EventData], Callable[[Any, Any], None]] = {}
    for method in vars(cls).values():
        for event_class in getattr(method, "applies", ()):
            if event_class in appliers:
                raise ValueError(f"{cls.__qualname__} applies {event_class.__qualname__} twice")
            appliers[event_class] = method
    return appliers


def shape_of(cls: type) -> str:
    """A hash of a struct's JSON schema: another one means that encoded values may not fit."""
    schema = _undocumented(msgspec.json.schema(cls))
    return blake2b(msgspec.json.encode(schema), digest_size=8).hexdigest()


def _undocumented(schema: Any) -> Any:
    """A JSON schema without docstrings: to word one better changes no shape."""
    if isinstance(schema, dict):
        return {
            key: _undocumented(value)
            for key, value in schema.items()
            if key != "description" or not isinstance(value, str)
        }
    return [_undocumented(item) for item in schema] if isinstance(schema, list) else schema
