"""Workflows moved by hand, on a clock that the test sets, and dying where the test wants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

from shop.eventsourcing import (
    AggregateRef,
    Aggregates,
    Command,
    CommandBus,
    CommandPayload,
    CommandResult,
    Commit,
    EventData,
    EventStore,
    Filter,
    ModelReader,
    ModelStore,
    Module,
    NewCommit,
    Query,
    Registry,
    Workflow,
    WorkflowEntry,
    WorkflowInstance,
    WorkflowList,
)
from shop.eventsourcing.models.model import Collection
from shop.eventsourcing.models.model_store import Checkpoint, Reading, StoredModel
from shop.eventsourcing.testing import Background, Clock, ClockStore
from shop.eventsourcing.workflows.reactions import Reactions
from shop.stores import Backend, open_backend


class Crash(BaseException):
    """The process died."""


class Fuse:
    """Kills a process before or after one of the writes to come, counted from the next one, 0."""

    def __init__(self) -> None:
        self._left: int | None = None
        self._after = False

    def light(self, writes: int, *, after: bool) -> None:
        self._left, self._after = writes, after

    def put_out(self) -> None:
        self._left = None

    @contextmanager
    def write(self) -> Iterator[None]:
        if self._left is None:
            yield
            return
        burnt, self._left = self._left == 0, self._left - 1
        if burnt and not self._after:
            raise Crash
        yield
        if burnt:
            raise Crash


class Frail(ClockStore):
    """An event store on a test's clock, whose process may die at a write."""

    def __init__(self, store: EventStore, clock: Clock, fuse: Fuse) -> None:
        super().__init__(store, clock)
        self._fuse = fuse

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        with self._fuse.write():
            return super().append_each(commits)


class FrailModels(ModelStore):
    """The same for read models and checkpoints."""

    def __init__(self, models: ModelStore, fuse: Fuse) -> None:
        self._models = models
        self._fuse = fuse

    def commit(
        self,
        expected: Checkpoint | None,
        checkpoint: Checkpoint,
        models: Sequence[StoredModel] = (),
    ) -> None:
        with self._fuse.write():
            self._models.commit(expected, checkpoint, models)

    def prepare(self, collections: Sequence[Collection]) -> None:
        self._models.prepare(collections)

    def checkpoint(self, projection: str) -> Checkpoint | None:
        return self._models.checkpoint(projection)

    def get(
        self, projection: str, collection: str, id: str, *, generation: int | None = None
    ) -> Reading[StoredModel | None]:
        return self._models.get(projection, collection, id, generation=generation)

    def find(
        self,
        projection: str,
        collection: Collection,
        filter: Filter,
        *,
        generation: int | None = None,
    ) -> Reading[list[StoredModel]]:
        return self._models.find(projection, collection, filter, generation=generation)

    def discard(self, collections: Sequence[str], generation: int) -> None:
        self._models.discard(collections, generation)


class Stage:
    """One set of stores, on which any number of processes work, one after the other or at once."""

    def __init__(self, url: str, modules: Sequence[Module], opened: ExitStack) -> None:
        self.clock = Clock(goes_on=True)
        self.modules = modules
        self._url = url
        self._opened = opened
        self._registry = Registry(event for module in modules for event in module.events)
        self._memory: tuple[Backend, EventStore] | None = None

    def open(self) -> tuple[EventStore, ModelStore]:
        """The stores, as one process opens them."""
        if self._memory is None or not self._url.startswith("memory:"):
            backend = open_backend(self._url)
            self._opened.callback(backend.close)
            self._memory = backend, backend.events(self._registry)
        backend, events = self._memory
        return events, backend.models

    def node(self, workflow: Workflow[Any], models: ModelStore | None = None) -> Node:
        """A process that has just started. ``models``: others than those beside the events."""
        events, beside = self.open()
        return Node(self, workflow, events, models or beside)


class Node(Background):
    """A process that runs a workflow, step by step. What it remembers is lost with it."""

    def __init__(
        self, stage: Stage, workflow: Workflow[Any], events: EventStore, models: ModelStore
    ) -> None:
        self.fuse = Fuse()
        self.workflow = workflow
        self.events = Frail(events, stage.clock, self.fuse)
        self.models = FrailModels(models, self.fuse)
        self.aggregates = Aggregates(self.events)
        self.commands = CommandBus(self.events, self.aggregates, stage.modules)
        super().__init__(
            self.events, self.models, self.aggregates, self.commands, workflows=[workflow]
        )

    @property
    def reactions(self) -> Reactions:
        """Those of the workflow."""
        [reactions] = self._reactions
        return reactions

    def do(
        self, payload: CommandPayload, id: UUID, command_id: UUID | None = None
    ) -> CommandResult:
        """Carry out somebody's command."""
        return self.commands.dispatch(Command.new(payload, id, id=command_id))

    @property
    def head(self) -> int:
        return self.events.head()

    def instance(self, id: UUID) -> WorkflowInstance:
        """An instance, as the log has it."""
        instance: WorkflowInstance = Aggregates(self.events).load(self.workflow.instances, id)
        return instance

    def entry(self, id: UUID) -> WorkflowEntry | None:
        """An instance, as it is shown."""
        ref = AggregateRef(self.workflow.name, id)
        return ModelReader(self.models, WorkflowList.name).get(WorkflowEntry, str(ref)).value

    def recorded(self, kind: type[EventData]) -> list[EventData]:
        """All events of a kind in the log."""
        return [event.data for event in self.events.read(Query(names=[kind.wire.name]))]
