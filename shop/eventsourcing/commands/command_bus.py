"""Carrying out commands, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from uuid import UUID

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.pipeline import Draft
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.buses.bus import BusStatus
from shop.eventsourcing.commands.batching import BatchDispatcher
from shop.eventsourcing.commands.command import (
    Command,
    CommandPayload,
    CommandResult,
)
from shop.eventsourcing.commands.deciding import Decider, result_of
from shop.eventsourcing.commands.module import Module
from shop.eventsourcing.commands.past_results import PastResults
from shop.eventsourcing.errors import (
    AggregateNotFoundError,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    CommitInDoubtError,
    CommitReusedError,
    ConcurrencyError,
    OutcomeUnknownError,
    StaleVersionError,
    StoreError,
    UnregisteredError,
)
from shop.eventsourcing.retry import ConflictRetry
from shop.eventsourcing.stores.store import Commit, EventStore


class CommandBus:
    """Carries out commands, each once. Thread-safe; blocks the calling thread.

    Raises ``ValueError`` where a command of the modules is not named after an aggregate.
    """

    def __init__(
        self, store: EventStore, aggregates: Aggregates, modules: Iterable[Module]
    ) -> None:
        self._store = store
        self._past = PastResults(store)
        self._decider = Decider(aggregates, modules)
        self._batches = BatchDispatcher(store, aggregates, self._decider, self.dispatch)
        self.registry = self._decider.registry

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
        self._decider.handler(command)
        digest = self._decider.digest(command)
        retry = ConflictRetry(timeout=timeout)
        try:
            for attempt in retry:
                with attempt:
                    first = retry.attempts == 1
                    try:
                        work = self._decider.decide(
                            command, Loading.CACHED if first else Loading.CURRENT
                        )
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
        return result_of(command, work, commit)

    def dispatch_each(
        self, commands: Sequence[Command[CommandPayload]]
    ) -> list[CommandResult | Exception]:
        """Carry out several commands; return for each its result, or what ``dispatch`` raises.

        As if they were dispatched one after the other, but in much less time: consecutive commands
        that concern different aggregates share one append. A command that conflicts with another
        writer is repeated, so it may be stored after those that follow it.
        """
        return self._batches.dispatch_each(commands)

    def draft(self, command: Command[CommandPayload], work: UnitOfWork) -> Draft:
        """Run a command's handler in a unit of work; return what a pipeline is to append.

        Raises what :meth:`dispatch` raises of a command that is refused.
        """
        return self._decider.draft(command, work)

    def check(self) -> None:
        """As :meth:`CommandDispatcher.check`: this process carries commands out itself."""

    def status(self) -> BusStatus:
        """As :meth:`CommandDispatcher.status`: there is nothing to tell."""
        return BusStatus()

    def stop(self) -> None:
        """As :meth:`CommandDispatcher.stop`: nobody waits for others."""

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


def _refused(digest: bytes) -> bytes:
    """What the commit of a command with this digest has as its digest if it was refused."""
    return blake2b(digest, digest_size=16, person=b"refused").digest()
