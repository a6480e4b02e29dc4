"""The toolkit: events, stores, aggregates, commands and projections.

It knows no shop, no database and no web framework. What an application needs is exported here.
"""

from shop.eventsourcing.aggregate import Aggregate, aggregate, applies
from shop.eventsourcing.bus import EventBus, Subscription
from shop.eventsourcing.command import (
    Command,
    CommandBus,
    CommandDispatcher,
    CommandPayload,
    CommandResult,
    Module,
    command,
)
from shop.eventsourcing.delegating import DelegatingStore
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    BusClosedError,
    BusError,
    BusUnavailableError,
    CheckpointMovedError,
    CommandError,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    CommitReusedError,
    ConcurrencyError,
    EventDecodeError,
    EventIdReusedError,
    EventSourcingError,
    MessageTooLargeError,
    NoAnswerError,
    NoResponderError,
    NoWorkerError,
    OutcomeUnknownError,
    PayloadError,
    ProjectionError,
    ReplicationError,
    StaleVersionError,
    StoreClosedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
    UnknownCommandError,
    WorkerFailedError,
)
from shop.eventsourcing.event import AggregateRef, Event, EventData, Metadata, event, new_id
from shop.eventsourcing.fold import FoldError
from shop.eventsourcing.model import (
    Filter,
    Keyed,
    ModelReader,
    ModelSession,
    ModelStore,
    Reading,
    ReadModel,
)
from shop.eventsourcing.projection import AggregateProjection, Projection, handles
from shop.eventsourcing.publishing import PublishingStore
from shop.eventsourcing.rebuild import Difference, Shadow
from shop.eventsourcing.registry import Payload, Registry
from shop.eventsourcing.remote import RemoteCommandBus
from shop.eventsourcing.repository import Aggregates, Repository, UnitOfWork
from shop.eventsourcing.requests import RequestBus
from shop.eventsourcing.runner import (
    Failure,
    ProjectionRunner,
    ProjectionState,
    ProjectionStatus,
    Schedule,
)
from shop.eventsourcing.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.store import Commit, EventStore, Query, StoreInfo
from shop.eventsourcing.watching import ModelProgress, ModelWatch
from shop.eventsourcing.worker import CommandWorker

__all__ = [
    "Aggregate",
    "AggregateNotFoundError",
    "AggregateProjection",
    "AggregateRef",
    "Aggregates",
    "BusClosedError",
    "BusError",
    "BusUnavailableError",
    "CheckpointMovedError",
    "Command",
    "CommandBus",
    "CommandDispatcher",
    "CommandError",
    "CommandIdReusedError",
    "CommandPayload",
    "CommandRejected",
    "CommandResult",
    "CommandTimeoutError",
    "CommandWorker",
    "Commit",
    "CommitReusedError",
    "ConcurrencyError",
    "DelegatingStore",
    "Difference",
    "Event",
    "EventBus",
    "EventData",
    "EventDecodeError",
    "EventIdReusedError",
    "EventSourcingError",
    "EventStore",
    "Failure",
    "Filter",
    "FoldError",
    "Keyed",
    "MessageTooLargeError",
    "Metadata",
    "ModelProgress",
    "ModelReader",
    "ModelSession",
    "ModelStore",
    "ModelWatch",
    "Module",
    "NoAnswerError",
    "NoResponderError",
    "NoWorkerError",
    "OutcomeUnknownError",
    "Payload",
    "PayloadError",
    "Projection",
    "ProjectionError",
    "ProjectionRunner",
    "ProjectionState",
    "ProjectionStatus",
    "PublishingStore",
    "Query",
    "ReadModel",
    "Reading",
    "Registry",
    "RemoteCommandBus",
    "ReplicationError",
    "Repository",
    "RequestBus",
    "Schedule",
    "Shadow",
    "Snapshot",
    "SnapshotStore",
    "StaleVersionError",
    "StoreClosedError",
    "StoreError",
    "StoreFormatError",
    "StoreInfo",
    "StoreUnavailableError",
    "Subscription",
    "UnitOfWork",
    "UnknownCommandError",
    "WorkerFailedError",
    "aggregate",
    "applies",
    "command",
    "event",
    "handles",
    "new_id",
]
