"""What an event comes to for an instance of a workflow."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.pipeline import Draft
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.commands.command import Command, CommandPayload
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandRejected,
    CommandTimeoutError,
    OutcomeUnknownError,
    StoreError,
    UnknownCommandError,
)
from shop.eventsourcing.events.event import Event, EventData, Metadata
from shop.eventsourcing.workflows.instance import (
    CONFLICT_TIMEOUT,
    CommandRefused,
    CommandRequested,
    Deferred,
    Parked,
    Phase,
    PhaseChanged,
    Resumed,
    WorkflowInstance,
)
from shop.eventsourcing.workflows.workflow import Workflow

logger = logging.getLogger(__name__)


class Delivery(NamedTuple):
    """An event for an instance to handle.

    ``now`` is the time that the handler gets, and ``commit_id`` the id under which the outcome is
    stored. ``waited`` means that the instance is parked and the event is the first that waits.
    """

    instance_id: UUID
    event: Event[EventData]
    now: datetime
    commit_id: UUID
    waited: bool = False

    @property
    def metadata(self) -> Metadata:
        """What the events of the outcome say about why they happened."""
        cause = self.event
        return Metadata(
            correlation_id=cause.metadata.correlation_id or cause.id, causation_id=cause.id
        )


class DeliveryDecider:
    """Has instances handle events; stores nothing but the commands that they want. Thread-safe."""

    def __init__(
        self, workflow: Workflow[Any], aggregates: Aggregates, commands: CommandBus
    ) -> None:
        self._workflow = workflow
        self._aggregates = aggregates
        self._commands = commands

    def draft(self, delivery: Delivery, work: UnitOfWork) -> Draft | None:
        """The outcome of a delivery, for a pipeline; ``None`` when there is nothing to store.

        Raises when the delivery has to be handled alone.
        """
        event = delivery.event
        instance = work.find(self._workflow.instances, delivery.instance_id)
        if isinstance(event.data, CommandRequested) and not instance.parked:
            if event.data.command_id in instance.refused:
                return None
            # The instance is guarded with it: nobody has recorded a refusal meanwhile.
            return self._commands.draft(self._command(instance, event, event.data), work)
        if not self._record(instance, delivery):
            if not instance.exists:
                raise AggregateNotFoundError(instance.ref)  # it may have begun since
            return None
        commit_id = delivery.commit_id
        return Draft(work, commit_id, commit_id.bytes, delivery.metadata)

    def decide(self, delivery: Delivery, loading: Loading) -> UnitOfWork | None:
        """Record the outcome of a delivery; ``None`` when there is nothing to store.

        On the cached state of the instance it is decided again on the current one when the handler
        fails, or when by the cache there is no instance. Otherwise the commit finds out whether the
        cached state was stale.
        """
        work = UnitOfWork(self._aggregates, loading=loading)
        instance = work.find(self._workflow.instances, delivery.instance_id)
        try:
            if self._record(instance, delivery):
                return work
        except (StoreError, CommandTimeoutError, OutcomeUnknownError):
            raise  # no fault of the workflow's: it is tried again
        except Exception as error:  # noqa: BLE001 - the log and the instance tell
            if not work.may_be_stale:
                return self._park(delivery, error)
        else:
            if instance.exists or not work.may_be_stale:
                return None
        return self.decide(delivery, Loading.CURRENT)

    def _park(self, delivery: Delivery, error: Exception) -> UnitOfWork:
        """Record that an instance stands still from now on, as it failed on an event."""
        event = delivery.event
        work = UnitOfWork(self._aggregates)
        instance = work.find(self._workflow.instances, delivery.instance_id)
        if not instance.exists:
            instance.record(PhaseChanged(Phase.RUNNING))
        instance.record(Parked(event.id, event.name, f"{type(error).__name__}: {error}"))
        logger.error(
            "%s is parked, as it failed on event %s (%s) at position %d",
            instance.ref,
            event.id,
            event.name,
            event.position,
            exc_info=error,
        )
        return work

    def _record(self, instance: WorkflowInstance, delivery: Delivery) -> bool:
        """Have an instance record the outcome of an event. Whether there is anything to store."""
        event = delivery.event
        if instance.parked and not delivery.waited:
            if event.id not in instance.waiting:
                instance.record(Deferred(event.id))
            return True
        if isinstance(event.data, CommandRequested):
            self._carry_out(instance, event, event.data)
        elif not instance.ended and (instance.exists or self._workflow.begins(event)):
            self._workflow.react(event, instance, delivery.now)
            for change in instance.changes:
                if isinstance(change, CommandRequested):
                    self._check_known(change)
        if delivery.waited:
            instance.record(Resumed(event.id, waiting=len(instance.waiting) - 1))
        return bool(instance.changes) or _was_handled(instance, event)

    def _carry_out(
        self, instance: WorkflowInstance, event: Event[EventData], requested: CommandRequested
    ) -> None:
        """Carry out a command, unless it was refused before; record a refusal."""
        if requested.command_id in instance.refused:
            return
        command = self._command(instance, event, requested)
        try:
            self._commands.dispatch(command, timeout=CONFLICT_TIMEOUT)
        except CommandRejected as refusal:
            code, detail = refusal.code, refusal.detail
        except AggregateNotFoundError as error:
            code, detail = "not-found", str(error)
        else:
            return
        instance.record(CommandRefused(command.id, requested.command, code, detail))

    def _command(
        self, instance: WorkflowInstance, event: Event[EventData], requested: CommandRequested
    ) -> Command[CommandPayload]:
        self._check_known(requested)
        payload = self._commands.registry.convert(requested.command, 1, requested.payload)
        return Command.new(
            payload,
            requested.aggregate_id,
            id=requested.command_id,
            correlation_id=event.metadata.correlation_id,
            causation_id=event.id,
            actor=str(instance.ref),
        )

    def _check_known(self, requested: CommandRequested) -> None:
        if requested.command not in self._commands.registry:
            raise UnknownCommandError(requested.command)


def _was_handled(instance: WorkflowInstance, event: Event[EventData]) -> bool:
    """Whether a handler was called: that is stored even when the handler recorded nothing.

    Not for a request of a command: the command is stored under an id of its own.
    """
    return instance.exists and not instance.ended and not isinstance(event.data, CommandRequested)
