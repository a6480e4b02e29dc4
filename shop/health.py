"""Whether a shop can do its work, and what keeps it from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from shop.eventsourcing import (
    FollowerState,
    FollowerStatus,
    NoWorkerError,
    StoreError,
    WorkflowRunnerStatus,
    WorkflowStatus,
)
from shop.eventsourcing.workflows.models import earliest_timers
from shop.runtime import Shop

MAX_LAG_SECONDS = 10.0
"""How late may be what other processes do: read models, and workflows with their timers."""
_WHY = "the workers are busy, down or failing, see their logs"


class Health(msgspec.Struct, frozen=True):
    """Whether the shop can do its work.

    It can unless there are ``problems``; what makes it ``degraded`` does not keep it from its work.
    """

    head: int | None
    """The event store's last position; ``None`` when it cannot be reached."""
    projections: tuple[FollowerStatus, ...]
    workflows: tuple[WorkflowRunnerStatus, ...]
    parked: Mapping[str, int] | None
    """How many instances of each workflow are parked; ``None`` when that cannot be read."""
    problems: tuple[str, ...]
    """A line for each thing that keeps it from its work."""
    degraded: tuple[str, ...] = ()
    """A line for each thing that does not: the bus is away, no worker answers, what other processes
    do is late, or a workflow is parked and waits for somebody to look at it."""

    @property
    def ready(self) -> bool:
        """Whether it can do its work."""
        return not self.problems


def health_of(shop: Shop) -> Health:
    """Look at the store and at every thread of a shop."""
    projections = [runner.status() for runner in shop.projections.values()]
    workflows = [runner.status() for runner in shop.workflows.values()]
    problems = [problem for status in projections for problem in _problems(status)]
    problems += [problem for status in workflows for problem in _workflow_problems(status)]
    degraded = [f"event bus: {s.problem}" for s in shop.bus_statuses() if s.problem]
    head = parked = None
    try:
        shop.check_open()
        head = shop.store.head()
        projections = [progress.status() for progress in shop.progress.values()]
        parked = _parked(shop)
    except StoreError as error:
        problems.append(f"stores: {error}")
    else:
        degraded += _left_undone(shop, projections, parked)
    if shop.ending:
        problems.append("the shop is stopping")
    return Health(
        head=head,
        projections=tuple(projections),
        workflows=tuple(workflows),
        parked=parked,
        problems=tuple(problems),
        degraded=tuple(degraded),
    )


def _left_undone(
    shop: Shop, projections: Iterable[FollowerStatus], parked: Mapping[str, int]
) -> Iterator[str]:
    """What others leave undone: the workers, or the people who look after parked workflows."""
    try:
        yield from _late_projections(shop, projections)
        yield from _late_workflows(shop)
        shop.commands.check()
    except (NoWorkerError, StoreError) as error:
        yield str(error)
    for name, count in parked.items():
        if count:
            yield f"workflow {name}: {count} parked, see /workflows?status=parked"


def _late_projections(shop: Shop, statuses: Iterable[FollowerStatus]) -> Iterator[str]:
    """Which read models that other processes keep are late; only the logs there say why."""
    for status in statuses:
        if status.state is FollowerState.ELSEWHERE:
            names = shop.progress[status.name].projection.event_names
            lag = shop.lag_seconds(names, status.position)
            if lag > MAX_LAG_SECONDS:
                yield f"projection {status.name} lacks an event that is {lag:.0f} s old: {_WHY}"


def _late_workflows(shop: Shop) -> Iterator[str]:
    """Which workflows that run in other processes are late."""
    for workflow in shop.application.workflows:
        if workflow.name in shop.workflows:
            continue
        reached = shop.models.checkpoint(workflow.name)
        lag = shop.lag_seconds(workflow.event_names, reached.position if reached else 0)
        if lag > MAX_LAG_SECONDS:
            yield f"workflow {workflow.name} lacks an event that is {lag:.0f} s old: {_WHY}"
        for timer in earliest_timers(shop.models, workflow.name, 1):
            late = (shop.store.now() - timer.time).total_seconds()
            if late > MAX_LAG_SECONDS:
                yield f"a timer of {workflow.name} is due for {late:.0f} s: {_WHY}"


def _parked(shop: Shop) -> Mapping[str, int]:
    names = [workflow.name for workflow in shop.application.workflows]
    parked = shop.list_workflows(WorkflowStatus.PARKED) if names else ()
    counts = Counter(entry.workflow for entry in parked)
    return {name: counts[name] for name in names}


def _problems(status: FollowerStatus) -> list[str]:
    if status.failure is not None:
        failure = status.failure
        where = f" on event {failure.event_id} at {failure.position}" if failure.event_id else ""
        return [f"projection {status.name} failed{where}: {failure.error}"]
    if status.state is FollowerState.STARTING:
        return [f"projection {status.name} is catching up, at position {status.position}"]
    if status.state in {FollowerState.STOPPED, FollowerState.PAUSED}:
        return [f"projection {status.name} is {status.state}"]
    return []


def _workflow_problems(status: WorkflowRunnerStatus) -> list[str]:
    """What keeps a workflow from working. One that is catching up works: it is late at most."""
    name = status.reactions.name
    reactions, timers = status.reactions, status.timers
    problems = []
    for thread, state, failure in (
        (f"workflow {name}", reactions.state, reactions.failure),
        (f"the timers of {name}", timers.state, timers.failure),
    ):
        if failure is not None:
            problems.append(f"{thread} failed: {failure.error}")
        elif state is FollowerState.STOPPED:
            problems.append(f"{thread} stopped")
    return problems
