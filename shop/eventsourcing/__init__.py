"""The toolkit: events, stores, aggregates, commands, projections and workflows.

It knows no shop, no database and no web framework. What an application needs is exported here.
"""

from shop.eventsourcing.aggregate import Aggregate, aggregate, applies
from shop.eventsourcing.bus import EventBus, Subscription
from shop.eventsourcing.command import (
    Command,
    CommandBus,
    CommandPayload,
    CommandResult,
    Module,
    command,
)
from shop.eventsourcing.delegating import DelegatingStore
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
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
    PayloadError,
    ProjectionError,
    ReplicationError,
    StaleVersionError,
    StoreClosedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
    UnknownCommandError,
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
from shop.eventsourcing.repository import Aggregates, Repository, UnitOfWork
from shop.eventsourcing.runner import (
    Failure,
    ProjectionRunner,
    ProjectionState,
    ProjectionStatus,
    Schedule,
)
from shop.eventsourcing.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.store import Commit, EventStore, Query, StoreInfo
from shop.eventsourcing.timers import TimerStatus
from shop.eventsourcing.workflow import (
    Workflow,
    WorkflowError,
    reacts_to,
    when_due,
    when_refused,
)
from shop.eventsourcing.workflow_instance import (
    WORKFLOW_EVENTS,
    CommandRefused,
    Phase,
    TimerFired,
    TimerSet,
    WorkflowInstance,
)
from shop.eventsourcing.workflow_list import (
    PendingTimer,
    WorkflowEntry,
    WorkflowFailure,
    WorkflowList,
    WorkflowStatus,
)
from shop.eventsourcing.workflow_runner import WorkflowRunner, WorkflowRunnerStatus

__all__ = [
    "WORKFLOW_EVENTS",
    "Aggregate",
    "AggregateNotFoundError",
    "AggregateProjection",
    "AggregateRef",
    "Aggregates",
    "CheckpointMovedError",
    "Command",
    "CommandBus",
    "CommandError",
    "CommandIdReusedError",
    "CommandPayload",
    "CommandRefused",
    "CommandRejected",
    "CommandResult",
    "CommandTimeoutError",
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
    "Metadata",
    "ModelReader",
    "ModelSession",
    "ModelStore",
    "Module",
    "Payload",
    "PayloadError",
    "PendingTimer",
    "Phase",
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
    "ReplicationError",
    "Repository",
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
    "TimerFired",
    "TimerSet",
    "TimerStatus",
    "UnitOfWork",
    "UnknownCommandError",
    "Workflow",
    "WorkflowEntry",
    "WorkflowError",
    "WorkflowFailure",
    "WorkflowInstance",
    "WorkflowList",
    "WorkflowRunner",
    "WorkflowRunnerStatus",
    "WorkflowStatus",
    "aggregate",
    "applies",
    "command",
    "event",
    "handles",
    "new_id",
    "reacts_to",
    "when_due",
    "when_refused",
]
