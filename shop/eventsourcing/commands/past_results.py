"""The results of commands that were done before, read from what they stored then."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from uuid import UUID

from shop.eventsourcing.commands.command import Command, CommandPayload, CommandResult
from shop.eventsourcing.events.event import AggregateRef, Event, EventData
from shop.eventsourcing.stores.store import Commit, EventStore, Query


class PastResults:
    """Finds out what commands did that are known to be done. Thread-safe."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def of(self, known: Sequence[tuple[Command[CommandPayload], Commit]]) -> list[CommandResult]:
        """The results of these commands, in order, from the commits that they became.

        Raises :class:`StoreError` where the store cannot be read.
        """
        recorded = self._recorded([commit for _, commit in known])
        return [
            CommandResult(
                command.id,
                command.aggregate,
                self._version_then(command.aggregate, commit, recorded[commit.id]),
                commit.last,
                recorded[commit.id],
                replayed=True,
            )
            for command, commit in known
        ]

    def _recorded(self, commits: Sequence[Commit]) -> dict[UUID, tuple[Event[EventData], ...]]:
        """The events of each commit. Commits that follow one another are read together."""
        recorded: dict[UUID, tuple[Event[EventData], ...]] = {}
        run: list[Commit] = []
        for commit in sorted(commits, key=lambda commit: (commit.first, commit.last)):
            if run and commit.first != run[-1].last + 1:
                recorded |= self._read_run(run)
                run = []
            run.append(commit)
        return recorded | self._read_run(run)

    def _read_run(self, run: Sequence[Commit]) -> dict[UUID, tuple[Event[EventData], ...]]:
        if not run or run[0].first > run[-1].last:
            return dict.fromkeys((commit.id for commit in run), ())
        events = self._store.read(Query(after=run[0].first - 1, to=run[-1].last))
        return {commit.id: tuple(islice(events, commit.size)) for commit in run}

    def _version_then(
        self, aggregate: AggregateRef, commit: Commit, events: Sequence[Event[EventData]]
    ) -> int:
        """The version that an aggregate had after a commit with these events."""
        own = [event for event in events if event.aggregate == aggregate]
        if not own:
            latest = Query(refs=[aggregate], to=commit.last, reverse=True, limit=1)
            own = list(self._store.read(latest))
        return own[-1].version if own else 0
