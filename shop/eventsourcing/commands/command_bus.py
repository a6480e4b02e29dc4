"""Carrying out commands, each once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from uuid import UUID

from shop.eventsourcing.aggregates.aggregate import Aggregate
from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.pipeline import Draft, Pipeline
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.buses.bus import BusStatus
from shop.eventsourcing.commands.command import (
    Command,
    CommandPayload,
    CommandResult,
    dispatch_in_turn,
)
from shop.eventsourcing.commands.module import Handler, Module, command_registry
from shop.eventsourcing.commands.past_results import PastResults
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    CommitInDoubtError,
    CommitReusedError,
    ConcurrencyError,
    EventSourcingError,
    OutcomeUnknownError,
    StaleVersionError,
    StoreError,
    StoreUnavailableError,
    UnknownCommandError,
    UnregisteredError,
)
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.stores.store import Commit, EventStore

CACHE_ROUNDS = 4
"""How often the cache is filled for many commands together before each loads for itself."""
_TOGETHER = 256
"""How many commands are decided before they are appended: as many as one group commit takes."""


class CommandBus:
    """Carries out commands, each once. Thread-safe; blocks the calling thread.

    Raises ``ValueError`` where a command of the modules is not named after an aggregate.
    """

    def __init__(
        self, store: EventStore, aggregates: Aggregates, modules: Iterable[Module]
    ) -> None:
        self._store = store
        self._past = PastResults(store)
        self._aggregates = aggregates
        modules = tuple(modules)
        self._handlers: dict[type[CommandPayload], Handler] = {}
        for module in modules:
            self._handlers |= module.handlers
        self.registry = command_registry(modules)

    def dispatch(
        self,
        command: Command[CommandPayload],
        *,
        timeout: float = 10.0,
        given_up_before: bool = False,
    ) -> CommandResult:
        """Carry out a command and return what it did, after that is durable.

        A command whose id was dispatched before returns the first result, with ``replayed`` set,
        whichever process the first was done by.

        ``given_up_before`` says that another process may still carry the command out, though nobody
        waits for its answer any more. A refusal is then final: it is stored under the command's id,
        which keeps that process from carrying the command out. Apart from that, nothing is written
        where one of these is raised:

        - :class:`PayloadError`: the payload does not fit its class
        - :class:`CommandRejected`: a business rule says no
        - :class:`AggregateNotFoundError`: the addressed aggregate does not exist
        - :class:`StaleVersionError`: it is not at ``expected_version``
        - :class:`CommandIdReusedError`: the id was used for something else
        - :class:`CommandTimeoutError`: it met conflicting writes for ``timeout`` seconds
        - :class:`UnknownCommandError`: nobody handles it
        - :class:`StoreUnavailableError`: the store cannot be reached
        - ``ValueError``: a bug, the handler did not load the addressed aggregate, or recorded an
          event that no module's aggregate applies

        Only :class:`OutcomeUnknownError` leaves it open: the store was lost in the middle, and
        could not be asked in time, or does not tell what was done.
        """
        self._handler(command)
        digest = self._digest(command)
        retry = ConflictRetry(timeout=timeout)
        try:
            for attempt in retry:
                with attempt:
                    first = retry.attempts == 1
                    try:
                        work = self._decide(command, Loading.CACHED if first else Loading.CURRENT)
                        commit = work.commit(
                            commit_id=command.id, digest=digest, metadata=command.metadata
                        )
                    except (CommandRejected, AggregateNotFoundError, StaleVersionError) as refusal:
                        commit = self._settle_refusal(
                            command.id, digest, refusal, final=given_up_before
                        )
        except CommitReusedError as error:
            known = self._store.find_commit(command.id)
            if known is not None and known.digest == _refused(digest):
                raise CommandRejected(
                    "refused-before", "it was refused under this id: send it under a new one"
                ) from error
            raise CommandIdReusedError(command.id) from error
        except UnregisteredError as error:
            raise ValueError(
                f"the handler of {command.name} recorded {error.name}, but no module"
                " has the aggregate that applies it"
            ) from error
        except CommitInDoubtError as error:
            raise OutcomeUnknownError(command.id, command.name, retry.elapsed) from error
        except ConcurrencyError as error:
            raise CommandTimeoutError(command.name, retry.attempts, retry.elapsed) from error
        if commit.replayed:
            try:
                return self._past.of([(command, commit)])[0]
            except StoreError as error:  # which would be taken to mean that nothing was written
                raise OutcomeUnknownError(command.id, command.name, retry.elapsed) from error
        return _result(command, work, commit)

    def _settle_refusal(
        self, id: UUID, digest: bytes, refusal: Exception, *, final: bool
    ) -> Commit:
        """The commit of a refused command that was done before: what it did may have it refused.

        Raises the refusal where it was not done before. A ``final`` refusal is first stored, as an
        empty commit under the command's id, so that nobody can carry the command out any more.
        """
        if final:
            with suppress(CommitReusedError):  # it was done before, or the id has another use
                self._store.append((), commit_id=id, digest=_refused(digest))
        known = self._store.find_commit(id)
        if known is None or known.digest == _refused(digest):
            raise refusal
        if known.digest != digest:
            raise CommandIdReusedError(id) from refusal
        return known

    def check(self) -> None:
        """As :meth:`CommandDispatcher.check`: this process carries commands out itself."""

    def status(self) -> BusStatus:
        """As :meth:`CommandDispatcher.status`: there is nothing to tell."""
        return BusStatus()

    def stop(self) -> None:
        """As :meth:`CommandDispatcher.stop`: nobody waits for others."""

    def dispatch_each(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """Carry out several commands; return for each its result, or what ``dispatch`` raises.

        As if they were dispatched one after the other, but in much less time: consecutive commands
        that concern different aggregates share one append. A command that conflicts with another
        writer is repeated, so it may be stored after those that follow it.
        """
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
                outcomes.append(_result(command, work, outcome))
            elif isinstance(outcome, CommitInDoubtError):
                name, waited = command.name, time.monotonic() - began
                outcomes.append(OutcomeUnknownError(command.id, name, waited))
            elif isinstance(outcome, StoreError):
                outcomes.append(outcome)
            else:  # in conflict with another writer
                outcomes += dispatch_in_turn(self.dispatch, [command])
        return outcomes

    def _dispatch_first(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """Carry out the first command alone; if it was done before, recall the next ones too.

        Returns the outcomes of as many of the first commands as are known then, at least one.
        """
        [outcome] = dispatch_in_turn(self.dispatch, commands[:1])
        if not isinstance(outcome, CommandResult) or not outcome.replayed:
            return [outcome]
        known: list[tuple[Command[CommandPayload], Commit]] = []
        with suppress(EventSourcingError):  # the next ones are told of it when they are dispatched
            for command in commands[1:]:
                commit = self._store.find_commit(command.id)
                if commit is None or commit.digest != self._digest(command):
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
            work = pipeline.work(loading, unused_id=_just_made(command))
            draft = None
            with suppress(Exception):  # the cache may be stale: it is decided again
                draft = self.draft(command, work)
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
                self._aggregates, loading=Loading.CACHED_ONLY, unused_id=_just_made(command)
            )
            with suppress(Exception):  # the command is carried out later
                self._record(command, work)
            missed += work.missed
        self._aggregates.preload(missed)

    def draft(self, command: Command[CommandPayload], work: UnitOfWork) -> Draft:
        """Run a command's handler in a unit of work; return what a pipeline is to append.

        Raises what :meth:`dispatch` raises of a command that is refused.
        """
        self._record(command, work)
        return Draft(work, command.id, self._digest(command), command.metadata)

    def _record(self, command: Command[CommandPayload], work: UnitOfWork) -> None:
        handler, aggregate = self._handler(command), command.aggregate
        work.in_handler = True
        try:
            handler(command.payload, aggregate.id, work)
        except Exception:
            if aggregate in work and not work.may_be_stale:
                # A sender that expects another version is told that first, whatever the rules say.
                work.check_version(aggregate, command.expected_version)
            raise
        finally:
            work.in_handler = False
        if aggregate not in work:
            raise ValueError(
                f"the handler of {command.name} did not load {aggregate}, which the"
                " command addresses: it must find() or get() it, whatever else it changes"
            )
        work.check_version(aggregate, command.expected_version)

    def _decide(self, command: Command[CommandPayload], loading: Loading) -> UnitOfWork:
        """Run the command's handler in a new unit of work.

        On cached aggregates this saves the reads of nearly every command: the commit finds out if
        they were stale. A refusal is decided again on current aggregates.
        """
        work = UnitOfWork(self._aggregates, loading=loading, unused_id=_just_made(command))
        try:
            self._record(command, work)
        except Exception:
            if work.may_be_stale:
                return self._decide(command, Loading.CURRENT)
            raise
        return work

    def _handler(self, command: Command[CommandPayload]) -> Handler:
        try:
            return self._handlers[type(command.payload)]
        except KeyError:
            raise UnknownCommandError(command.name) from None

    def _digest(self, command: Command[CommandPayload]) -> bytes:
        """A hash of what is wanted: the command's name, the aggregate and the payload."""
        payload = self.registry.encode(command.payload)
        hasher = blake2b(digest_size=16)
        hasher.update(f"{command.name} {command.aggregate_id} ".encode())
        hasher.update(payload)
        return hasher.digest()


def _refused(digest: bytes) -> bytes:
    """What the commit of a command with this digest has as its digest if it was refused."""
    return blake2b(digest, digest_size=16, person=b"refused").digest()


def _just_made(command: Command[CommandPayload]) -> UUID | None:
    """The id of the aggregate that a command creates, if that id was just made for it."""
    return command.id if command.aggregate_id is None else None


def _result(command: Command[CommandPayload], work: UnitOfWork, commit: Commit) -> CommandResult:
    version = work.version(command.aggregate)
    return CommandResult(command.id, command.aggregate, version, commit.last, tuple(work.events))
