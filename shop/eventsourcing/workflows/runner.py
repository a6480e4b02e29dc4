"""Running workflows: one thread for the reactions of each, one for its timers."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import msgspec

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.buses.bus import EventBus
from shop.eventsourcing.commands.command_bus import CommandBus
from shop.eventsourcing.following.runner import FollowerStatus, LogRunner, Schedule
from shop.eventsourcing.models.model_store import ModelStore
from shop.eventsourcing.projections.runner import ProjectionRunner
from shop.eventsourcing.stores.store import EventStore
from shop.eventsourcing.workflows.reactions import Reactions
from shop.eventsourcing.workflows.timers import Timers, TimerStatus, TimerThread
from shop.eventsourcing.workflows.workflow import Workflow


class WorkflowRunnerStatus(msgspec.Struct, frozen=True):
    """How the threads of a workflow are doing."""

    reactions: FollowerStatus
    timers: TimerStatus


class WorkflowRunner:
    """Owns the threads of one workflow: it reacts, has commands carried out, and fires timers.

    Several processes may run the same workflow on the same stores: everything is still done once.
    ``listing`` runs :class:`~shop.eventsourcing.workflows.models.WorkflowList` on the same models,
    ``aggregates`` and ``commands`` use the same events. All methods may be called by any thread.
    """

    def __init__(
        self,
        workflow: Workflow[Any],
        *,
        events: EventStore,
        models: ModelStore,
        bus: EventBus,
        aggregates: Aggregates,
        commands: CommandBus,
        listing: ProjectionRunner,
        schedule: Schedule = Schedule(),
    ) -> None:
        self.workflow = workflow
        self._reactions = Reactions(workflow, events, models, aggregates, commands)
        self._runner = LogRunner(
            self._reactions, events, models, bus, kind="workflow", schedule=schedule
        )
        timers = Timers(workflow, events, models, aggregates)
        self._timers = TimerThread(workflow, timers, bus, listing, poll=schedule.poll)

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.workflow.name

    def status(self) -> WorkflowRunnerStatus:
        """How the workflow is doing."""
        return WorkflowRunnerStatus(self._runner.status(), self._timers.status())

    def start(self) -> None:
        """Start the threads. Once."""
        self._runner.start()
        self._timers.start()

    def stop(self) -> None:
        """Ask the threads to stop, without waiting for them."""
        self._timers.stop()
        self._runner.stop()

    def close(self, timeout: float) -> bool:
        """Stop at the end of what is under way; wait at most ``timeout`` seconds. Idempotent.

        Returns whether all threads ended.
        """
        self.stop()
        until = time.monotonic() + timeout
        threads = (self._timers, self._runner)
        ended = [thread.close(max(0.0, until - time.monotonic())) for thread in threads]
        return all(ended)

    def wait_for(self, position: int, timeout: float) -> bool:
        """Wait until the workflow has reacted to everything up to a position of the log.

        At most ``timeout`` seconds; returns whether it has.
        """
        return self._runner.wait_for(position, timeout)

    def retry(self, id: UUID) -> None:
        """Have a parked instance try again, wherever the workflow runs.

        Raises :class:`~shop.eventsourcing.errors.CommandRejected` when it is not parked, and
        :class:`~shop.eventsourcing.errors.AggregateNotFoundError` when it never began.
        """
        self._reactions.retry(id)
