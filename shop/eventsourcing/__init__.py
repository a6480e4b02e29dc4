"""The toolkit: events, stores, aggregates, commands, projections and workflows.

It knows no shop, no database and no web framework. What an application needs is exported here.
Imports run one way, from the last of these to the first:

- ``errors``, ``retry``, ``threads``: what all of the others use
- ``events``: envelopes, payloads, wire names
- ``buses``: the port of the event bus
- ``stores``: the port of the event store, and what its backends share; ``models``: the same of read
  models
- ``aggregates``: loading, changing and saving; ``following``: threads that move along the log
- ``commands``; ``projections``
- ``workflows``
- ``testing``: given, when, then
"""

from shop.eventsourcing.aggregates.aggregate import Aggregate, aggregate, applies
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.repository import Repository
from shop.eventsourcing.aggregates.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.aggregates.unit_of_work import UnitOfWork
from shop.eventsourcing.buses.bus import BusStatus, EventBus, NamePatterns, Subscription
from shop.eventsourcing.buses.requests import RequestBus
from shop.eventsourcing.commands.command import (
    Command,
    CommandDispatcher,
    CommandPayload,
    CommandResult,
    command,
)
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.commands.module import Module
from shop.eventsourcing.commands.remote import RemoteCommandBus
from shop.eventsourcing.commands.worker import CommandWorker
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    ArchiveError,
    BusClosedError,
    BusError,
    BusUnavailableError,
    CheckpointMovedError,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    CommitInDoubtError,
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
    UnregisteredError,
    VerificationError,
    WorkerFailedError,
)
from shop.eventsourcing.events.envelope import UnknownEventData
from shop.eventsourcing.events.event import AggregateRef, Event, EventData, Metadata, event, new_id
from shop.eventsourcing.events.registry import Payload, Registry
from shop.eventsourcing.following.failures import Failure
from shop.eventsourcing.following.follower import FollowerError
from shop.eventsourcing.following.runner import FollowerState, FollowerStatus, Schedule
from shop.eventsourcing.models.model import ReadModel
from shop.eventsourcing.models.model_store import Filter, ModelStore, Reading
from shop.eventsourcing.models.reader import Keyed, ModelReader
from shop.eventsourcing.models.session import ModelSession
from shop.eventsourcing.projections.projection import AggregateProjection, Projection, handles
from shop.eventsourcing.projections.rebuild import Difference, Shadow
from shop.eventsourcing.projections.runner import ProjectionRunner
from shop.eventsourcing.projections.watching import ModelProgress, ModelWatch
from shop.eventsourcing.stores.delegating import DelegatingStore
from shop.eventsourcing.stores.publishing import PublishingStore
from shop.eventsourcing.stores.store import Commit, EventStore, NewCommit, Query, StoreInfo
from shop.eventsourcing.workflows.instance import (
    CommandRefused,
    Phase,
    TimerFired,
    TimerSet,
    WorkflowInstance,
)
from shop.eventsourcing.workflows.models import (
    PendingTimer,
    WorkflowEntry,
    WorkflowFailure,
    WorkflowList,
    WorkflowStatus,
)
from shop.eventsourcing.workflows.runner import WorkflowRunner, WorkflowRunnerStatus
from shop.eventsourcing.workflows.timers import TimerStatus
from shop.eventsourcing.workflows.workflow import (
    Workflow,
    WorkflowError,
    reacts_to,
    when_due,
    when_refused,
)

__all__ = [
    "Aggregate",
    "AggregateNotFoundError",
    "AggregateProjection",
    "AggregateRef",
    "Aggregates",
    "ArchiveError",
    "BusClosedError",
    "BusError",
    "BusStatus",
    "BusUnavailableError",
    "CheckpointMovedError",
    "Command",
    "CommandBus",
    "CommandDispatcher",
    "CommandIdReusedError",
    "CommandPayload",
    "CommandRefused",
    "CommandRejected",
    "CommandResult",
    "CommandTimeoutError",
    "CommandWorker",
    "Commit",
    "CommitInDoubtError",
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
    "FollowerError",
    "FollowerState",
    "FollowerStatus",
    "Keyed",
    "MessageTooLargeError",
    "Metadata",
    "ModelProgress",
    "ModelReader",
    "ModelSession",
    "ModelStore",
    "ModelWatch",
    "Module",
    "NamePatterns",
    "NewCommit",
    "NoAnswerError",
    "NoResponderError",
    "NoWorkerError",
    "OutcomeUnknownError",
    "Payload",
    "PayloadError",
    "PendingTimer",
    "Phase",
    "Projection",
    "ProjectionError",
    "ProjectionRunner",
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
    "TimerFired",
    "TimerSet",
    "TimerStatus",
    "UnitOfWork",
    "UnknownCommandError",
    "UnknownEventData",
    "UnregisteredError",
    "VerificationError",
    "WorkerFailedError",
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
