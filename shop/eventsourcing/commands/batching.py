"""Carrying out many commands with few appends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from uuid import UUID

from shop.eventsourcing.aggregates.aggregate import Aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.pipeline import CACHE_ROUNDS, Pipeline
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.commands.command import (
    Command,
    CommandPayload,
    CommandResult,
    dispatch_in_turn,
)
from shop.eventsourcing.commands.deciding import Decider, just_made, result_of
from shop.eventsourcing.commands.past_results import PastResults
from shop.eventsourcing.errors import (
    CommitInDoubtError,
    EventSourcingError,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
)
from shop.eventsourcing.stores.store import Commit, EventStore

_TOGETHER = 256
"""How many commands are decided before they are appended: as many as one group commit takes."""


class BatchDispatcher:
    """Carries out commands as :meth:`CommandBus.dispatch_each` says. Thread-safe.

    ``dispatch`` carries out one alone.
    """

    def __init__(
        self,
        store: EventStore,
        aggregates: Aggregates,
        decider: Decider,
        dispatch: Callable[[Command[CommandPayload]], CommandResult],
    ) -> None:
        self._store = store
        self._aggregates = aggregates
        self._decider = decider
        self._dispatch = dispatch
        self._past = PastResults(store)

    def dispatch_each(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """Carry out the commands; return for each its result or error."""
        outcomes: list[CommandResult | Exception] = []
        for start in range(0, len(commands), _TOGETHER):
            left = commands[start : start + _TOGETHER]
            rounds = iter(range(CACHE_ROUNDS))
            while left:
                some = self._dispatch_together(left, rounds)
                outcomes += some
                left = left[len(some) :]
        return outcomes

    def _dispatch_together(
        self, commands: Sequence[Command[CommandPayload]], rounds: Iterator[int]
    ) -> list[CommandResult | Exception]:
        """Carry out as many of the first commands as can be appended together, at least one.

        ``rounds`` are the times that the cache may still be filled for all of the commands.
        """
        began = time.monotonic()
        pipeline = Pipeline(self._aggregates)
        try:
            works = self._draft_together(commands, pipeline, rounds)
        except StoreUnavailableError as error:
            return [error] * len(commands)  # nothing was written
        if not works:
            return self._dispatch_first(commands)
        commits = pipeline.commit()
        recalled = self._recall_replayed(commands, commits)
        outcomes: list[CommandResult | Exception] = []
        for command, work, outcome in zip(commands, works, commits, strict=False):
            if command.id in recalled:
                outcomes.append(recalled[command.id])
            elif isinstance(outcome, Commit) and not outcome.replayed:
                outcomes.append(result_of(command, work, outcome))
            elif isinstance(outcome, CommitInDoubtError):
                name, waited = command.name, time.monotonic() - began
                outcomes.append(OutcomeUnknownError(command.id, name, waited))
            elif isinstance(outcome, StoreError):
                outcomes.append(outcome)
            else:  # in conflict with another writer
                outcomes += dispatch_in_turn(self._dispatch, [command])
        return outcomes

    def _dispatch_first(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """Carry out the first command alone; if it was done before, recall the next ones too.

        Returns the outcomes of as many of the first commands as are known then, at least one.
        """
        [outcome] = dispatch_in_turn(self._dispatch, commands[:1])
        if not isinstance(outcome, CommandResult) or not outcome.replayed:
            return [outcome]
        known: list[tuple[Command[CommandPayload], Commit]] = []
        with suppress(EventSourcingError):  # the next ones are told of it when they are dispatched
            for command in commands[1:]:
                commit = self._store.find_commit(command.id)
                if commit is None or commit.digest != self._decider.digest(command):
                    break
                known.append((command, commit))
            return [outcome, *self._past.of(known)]
        return [outcome]

    def _recall_replayed(
        self,
        commands: Sequence[Command[CommandPayload]],
        commits: Sequence[Commit | Exception],
    ) -> dict[UUID, CommandResult]:
        """The results of the commands that were done before; empty where these cannot be read."""
        known = [
            (command, commit)
            for command, commit in zip(commands, commits, strict=False)
            if isinstance(commit, Commit) and commit.replayed
        ]
        with suppress(StoreError):  # each is told of it when it is dispatched alone
            return {result.command_id: result for result in self._past.of(known)}
        return {}

    def _draft_together(
        self,
        commands: Sequence[Command[CommandPayload]],
        pipeline: Pipeline,
        rounds: Iterator[int],
    ) -> list[UnitOfWork]:
        """Draft as many of the first commands as can be appended together."""
        works: list[UnitOfWork] = []
        loading = Loading.CACHED_ONLY
        while len(works) < len(commands):
            command = commands[len(works)]
            work = pipeline.work(loading, unused_id=just_made(command))
            draft = None
            with suppress(Exception):  # the cache may be stale: it is decided again
                draft = self._decider.draft(command, work)
            if work.missed:
                if next(rounds, None) is None:
                    loading = Loading.CACHED
                else:
                    self._fill_cache(commands[len(works) :])
            elif draft is not None and pipeline.add(draft):
                works.append(work)
            else:
                break
        return works

    def _fill_cache(self, commands: Iterable[Command[CommandPayload]]) -> None:
        """Load together what the handlers of these commands miss in the cache.

        A handler that stops at the first missing aggregate misses the next one in the next round.
        """
        missed: list[tuple[type[Aggregate], UUID]] = []
        for command in commands:
            work = UnitOfWork(
                self._aggregates, loading=Loading.CACHED_ONLY, unused_id=just_made(command)
            )
            with suppress(Exception):  # the command is carried out later
                self._decider.record(command, work)
            missed += work.missed
        self._aggregates.preload(missed)
