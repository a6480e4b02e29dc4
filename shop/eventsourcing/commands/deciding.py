"""What a command comes to: its handler, run in a unit of work."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

from shop.eventsourcing.aggregates.loading import Aggregates
from shop.eventsourcing.aggregates.pipeline import Draft
from shop.eventsourcing.aggregates.unit_of_work import Loading, UnitOfWork
from shop.eventsourcing.commands.command import Command, CommandPayload, CommandResult
from shop.eventsourcing.commands.module import Handler, Module, command_registry
from shop.eventsourcing.errors import UnknownCommandError
from shop.eventsourcing.stores.store import Commit


class Decider:
    """Runs the handlers of commands, and stores nothing. Thread-safe.

    Raises ``ValueError`` where a command of the modules is not named after an aggregate.
    """

    def __init__(self, aggregates: Aggregates, modules: Iterable[Module]) -> None:
        modules = tuple(modules)
        self._aggregates = aggregates
        self._handlers: dict[type[CommandPayload], Handler] = {}
        for module in modules:
            self._handlers |= module.handlers
        self.registry = command_registry(modules)

    def handler(self, command: Command[CommandPayload]) -> Handler:
        """The handler of a command. Raises :class:`UnknownCommandError` where nobody handles it."""
        try:
            return self._handlers[type(command.payload)]
        except KeyError:
            raise UnknownCommandError(command.name) from None

    def digest(self, command: Command[CommandPayload]) -> bytes:
        """A hash of what is wanted: the command's name, the aggregate and the payload."""
        payload = self.registry.encode(command.payload)
        hasher = blake2b(digest_size=16)
        hasher.update(f"{command.name} {command.aggregate_id} ".encode())
        hasher.update(payload)
        return hasher.digest()

    def decide(self, command: Command[CommandPayload], loading: Loading) -> UnitOfWork:
        """Run the command's handler in a new unit of work.

        On cached aggregates this saves the reads of nearly every command: the commit finds out if
        they were stale. A refusal is decided again on current aggregates.
        """
        work = UnitOfWork(self._aggregates, loading=loading, unused_id=just_made(command))
        try:
            self.record(command, work)
        except Exception:
            if work.may_be_stale:
                return self.decide(command, Loading.CURRENT)
            raise
        return work

    def draft(self, command: Command[CommandPayload], work: UnitOfWork) -> Draft:
        """Run a command's handler in a unit of work; return what a pipeline is to append.

        Raises what :meth:`CommandBus.dispatch` raises of a command that is refused.
        """
        self.record(command, work)
        return Draft(work, command.id, self.digest(command), command.metadata)

    def record(self, command: Command[CommandPayload], work: UnitOfWork) -> None:
        """Run a command's handler in a unit of work; raise as :meth:`CommandBus.dispatch`."""
        handler, aggregate = self.handler(command), command.aggregate
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


def just_made(command: Command[CommandPayload]) -> UUID | None:
    """The id of the aggregate that a command creates, if that id was just made for it."""
    return command.id if command.aggregate_id is None else None


def result_of(command: Command[CommandPayload], work: UnitOfWork, commit: Commit) -> CommandResult:
    """What a command did, which was decided in a unit of work that became this commit."""
    version = work.version(command.aggregate)
    return CommandResult(command.id, command.aggregate, version, commit.last, tuple(work.events))
