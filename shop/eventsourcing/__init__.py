"""The toolkit: events, stores, aggregates, commands, projections and workflows.

It knows no shop, no database and no web framework. What an application needs is exported here. The
modules, by what they are for:

- to write a domain: ``event``, ``registry``, ``aggregate``, ``unit_of_work``, ``command``,
  ``module``, ``projection``, ``model``, ``workflow``, ``workflow_instance``, ``errors``, and
  ``testing`` for its tests
- ports, which backends implement: ``store``, ``bus``, ``requests``, and those in ``model`` and
  ``snapshot``
- to load, change and save aggregates: ``aggregates``, ``repository``, ``retry``
- to carry out commands: ``command_bus``; in other processes ``remote``, ``worker``,
  ``command_wire``
- to publish what is appended: ``publishing``, ``tail``, ``delegating``
- to follow the log: ``runner``, ``announcements``, ``follower``, ``fold``, ``failures``,
  ``threads``; for read models ``rebuild`` and ``watching``
- to run workflows: ``workflow_runner``, ``reactions``, ``timers``, ``workflow_list``
- to move a log: ``replication``, ``archive``
- what backends share: ``append``, ``group_commit``, ``decoding``, ``envelope``, ``event_queue``,
  ``paging``, ``ordinal``, ``times``
"""

from shop.eventsourcing.aggregate import Aggregate, aggregate, applies
from shop.eventsourcing.aggregates import Aggregates
from shop.eventsourcing.bus import BusStatus, EventBus, NamePatterns, Subscription
from shop.eventsourcing.command import (
    Command,
    CommandDispatcher,
    CommandPayload,
    CommandResult,
    command,
)
from shop.eventsourcing.command_bus import CommandBus
from shop.eventsourcing.delegating import DelegatingStore
from shop.eventsourcing.envelope import UnknownEventData
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
from shop.eventsourcing.event import AggregateRef, Event, EventData, Metadata, event, new_id
from shop.eventsourcing.failures import Failure
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
from shop.eventsourcing.module import Module
from shop.eventsourcing.projection import AggregateProjection, Projection, handles
from shop.eventsourcing.publishing import PublishingStore
from shop.eventsourcing.rebuild import Difference, Shadow
from shop.eventsourcing.registry import Payload, Registry
from shop.eventsourcing.remote import RemoteCommandBus
from shop.eventsourcing.repository import Repository
from shop.eventsourcing.requests import RequestBus
from shop.eventsourcing.runner import (
    FollowerState,
    FollowerStatus,
    ProjectionRunner,
    Schedule,
)
from shop.eventsourcing.snapshot import Snapshot, SnapshotStore
from shop.eventsourcing.store import Commit, EventStore, NewCommit, Query, StoreInfo
from shop.eventsourcing.timers import TimerStatus
from shop.eventsourcing.unit_of_work import UnitOfWork
from shop.eventsourcing.watching import ModelProgress, ModelWatch
from shop.eventsourcing.worker import CommandWorker
from shop.eventsourcing.workflow import (
    Workflow,
    WorkflowError,
    reacts_to,
    when_due,
    when_refused,
)
from shop.eventsourcing.workflow_instance import (
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
    "FoldError",
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
