"""Projections: how events become read models.

Event by event, each handler changes the models that its event concerns::

    class NoteList(Projection):
        name = "note_list"
        models = (NoteEntry,)

        @handles(Noted)
        def noted(self, event: Event[Noted], models: ModelSession) -> None:
            models.put(event.aggregate.id, NoteEntry(event.data.text))

Or from aggregates: an :class:`AggregateProjection` derives each model anew from its aggregates.

Handlers are deterministic: what they write depends on events and models alone, never on the
clock, chance or another service. A rebuild must come to the same models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregates.aggregate import Aggregate, shape_of
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.events.event import Event, EventData
from shop.eventsourcing.events.registry import check_named
from shop.eventsourcing.events.types import check_signature
from shop.eventsourcing.models.model import Collection, ReadModel, check_name
from shop.eventsourcing.models.session import ModelSession

F = TypeVar("F", bound=Callable[..., None])


def handles(*event_classes: type[EventData]) -> Callable[[F], F]:
    """Mark a method of a projection as the handler of events.

    Raises ``TypeError`` for one that does not take an event and the session of models.
    """
    check_named("handles", event_classes, EventData)

    def mark(method: F) -> F:
        check_signature(method, "self", "event", "models")
        method.__dict__["handles"] = (*method.__dict__.get("handles", ()), *event_classes)
        return method

    return mark


class Projection:
    """Base of projections. Stateless, so that several threads may run it at once.

    A subclass has these class variables:

    - ``name``: lower-case letters, digits and ``_``; it names the checkpoint and the collections
    - ``models``: a tuple of the classes of read models that the handlers write
    - ``version``: 1 at first; raise it when the handlers come to mean something else, and the
      models are built anew

    and a method for each event that changes the models, marked with :func:`handles`. Defining it
    raises ``ValueError`` where one of these is missing or wrong; a class with neither name nor
    models is a base of others.
    """

    name: ClassVar[str]
    models: ClassVar[tuple[type[ReadModel], ...]]
    version: ClassVar[int] = 1

    _handlers: ClassVar[Mapping[str, Callable[[Any, Any, ModelSession], None]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        handlers: dict[str, Callable[[Any, Any, ModelSession], None]] = {}
        for method in vars(cls).values():
            for event_class in getattr(method, "handles", ()):
                if handlers.setdefault(event_class.wire.name, method) is not method:
                    raise ValueError(f"{cls.__qualname__} handles {event_class.__qualname__} twice")
        cls._handlers = {**cls._handlers, **handlers}
        if hasattr(cls, "name") or hasattr(cls, "models"):
            cls._check()

    @classmethod
    def _check(cls) -> None:
        """Raise ``ValueError`` for a class that could not be run."""
        name, models = getattr(cls, "name", None), getattr(cls, "models", None)
        check_name(f"{cls.__qualname__}.name", name)
        if not (
            isinstance(models, tuple)
            and models
            and all(isinstance(model, type) and issubclass(model, ReadModel) for model in models)
        ):
            raise ValueError(
                f"{cls.__qualname__}.models is a tuple of classes of read models, not {models!r}"
            )
        for model in models:
            _check_fields(model)
            Collection.of(name, model)  # refuses names that no collection or index can have
        # Where the events come from elsewhere, they are not the handlers'.
        if cls.event_names is Projection.event_names and not cls._handlers:
            raise ValueError(f"{cls.__qualname__} handles no event: mark methods with @handles")

    @property
    def event_names(self) -> frozenset[str]:
        """The wire names of the events that change the models."""
        return frozenset(self._handlers)

    @property
    def collections(self) -> tuple[Collection, ...]:
        """Where the models are kept."""
        return tuple(Collection.of(self.name, model) for model in self.models)

    @property
    def shape(self) -> str:
        """Stands for version, handled events and model classes: another one asks for a rebuild."""
        parts = [str(self.version), *sorted(self.event_names)]
        for model in self.models:
            parts += [shape_of(model), *model.indexes]
            if model.ordered_by:
                parts.append(f"ordered by {model.ordered_by}")
        return blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()

    def relevant(self, events: Sequence[Event[EventData]]) -> Sequence[Event[EventData]]:
        """Those of a batch that :meth:`apply` must see: by default all."""
        return events

    def model_ids(self, event: Event[EventData]) -> Iterable[str]:
        """Ids of models that the event is likely to change: a batch loads those together.

        By default that of the aggregate, which most models share.
        """
        return (str(event.aggregate.id),)

    def apply(self, event: Event[EventData], models: ModelSession, past: Aggregates) -> None:
        """Change the models as the event asks. ``past`` has the aggregates as they were then."""
        self._handlers[event.name](self, event, models)


def _check_fields(model: type[ReadModel]) -> None:
    """Raise ``ValueError`` where a model is looked up or ordered by what is no field of it."""
    indexes: object = model.indexes
    if not isinstance(indexes, tuple):
        raise ValueError(  # noqa: TRY004 - as for the other class variables
            f"{model.__qualname__}.indexes is a tuple of the names of fields, not {indexes!r}"
        )
    order = () if model.ordered_by is None else (model.ordered_by,)
    for what, names in (("indexes", indexes), ("ordered_by", order)):
        for name in names:
            if name not in model.__struct_fields__:
                raise ValueError(f"{model.__qualname__}.{what} names no field of it: {name!r}")
    for field in msgspec.structs.fields(model):
        if field.name == model.ordered_by and not _is_integer(field.type):
            raise ValueError(
                f"{model.__qualname__}.{field.name} is no int: models are ordered by one"
            )


def _is_integer(type_: Any) -> bool:
    kind = msgspec.inspect.type_info(type_)
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    return isinstance(kind, msgspec.inspect.IntType)


class AggregateProjection(Projection):
    """Derives each model from the aggregates that share its id, as they stood at the event.

    Simple where a model shows what aggregates know, and dearer than handling events one by one:
    each batch loads the aggregates that it concerns.

    A subclass has ``name``, ``version`` and ``models`` as any projection, with one class of models;
    ``aggregates``, a tuple of aggregate classes; and defines :meth:`project`.
    """

    aggregates: ClassVar[tuple[type[Aggregate], ...]]

    @classmethod
    def _check(cls) -> None:
        aggregates: object = getattr(cls, "aggregates", None)
        if not (
            isinstance(aggregates, tuple)
            and aggregates
            and all(hasattr(aggregate, "kind") for aggregate in aggregates)
        ):
            raise ValueError(
                f"{cls.__qualname__}.aggregates is a tuple of classes of aggregates, not"
                f" {aggregates!r}"
            )
        check_signature(cls.project, "self", "id", *(one.__name__ for one in aggregates))
        super()._check()
        if len(cls.models) != 1:
            raise ValueError(
                f"{cls.__qualname__}.models is one class of read models, not {cls.models!r}"
            )

    def project(self, id: UUID, *aggregates: Any) -> ReadModel | None:
        """The model of that id, ``None`` for no model.

        The aggregates come in the order of the class variable, at version 0 where nothing had
        happened to them yet.
        """
        raise NotImplementedError(f"{type(self).__qualname__} must define project()")

    @property
    def event_names(self) -> frozenset[str]:
        """The wire names of all events that the aggregates apply."""
        return frozenset(event.wire.name for cls in self.aggregates for event in cls.appliers)

    def relevant(self, events: Sequence[Event[EventData]]) -> Sequence[Event[EventData]]:
        """The last event of each id: it shows the aggregates with all the others."""
        return sorted(
            {event.aggregate.id: event for event in events}.values(), key=lambda e: e.position
        )

    def apply(self, event: Event[EventData], models: ModelSession, past: Aggregates) -> None:
        """Derive the model of the event's id."""
        id = event.aggregate.id
        loaded = [past.load(cls, id, position=event.position) for cls in self.aggregates]
        model = self.project(id, *loaded)
        if model is None:
            models.delete(self.models[0], id)
        else:
            models.put(id, model)
