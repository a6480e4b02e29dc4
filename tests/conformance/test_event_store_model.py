"""Each store against a model: whatever is appended and asked for, in whatever order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shop.eventsourcing import (
    AggregateRef,
    Commit,
    CommitReusedError,
    ConcurrencyError,
    Event,
    EventIdReusedError,
    EventSourcingError,
    NewCommit,
    Query,
)
from tests.notebook import AnyEvent, Counted, Noted
from tests.stores import NewStorage, Storage

# Few of each, so that they meet often.
IDS = [UUID(int=n) for n in range(1, 4)]
KINDS = ["notebook.note", "notebook.list"]
REFS = [AggregateRef(name, id) for name in KINDS for id in IDS]
NAMES = ["notebook.noted", "notebook.counted"]
COMMITS = [UUID(int=n) for n in range(101, 109)]
START = datetime(2026, 1, 1, tzinfo=UTC)

times = st.integers(0, 20).map(lambda minutes: START + timedelta(minutes=minutes))
data = st.builds(Noted, st.text(max_size=5)) | st.builds(Counted, st.integers(0, 3))


def some(values: Sequence[Any]) -> st.SearchStrategy[list[Any] | None]:
    return st.none() | st.lists(st.sampled_from(values), max_size=3)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


EVENT_IDS = [UUID(int=n) for n in range(1001, 1100)]
queries = st.builds(
    Query,
    ids=some(EVENT_IDS[:20]),
    names=some(NAMES),
    aggregates=some(KINDS),
    aggregate_ids=some(IDS),
    refs=some(REFS),
    versions=st.tuples(maybe(st.integers(0, 5)), maybe(st.integers(0, 5))),
    since=maybe(times),
    until=maybe(times),
    after=st.integers(0, 20),
    to=maybe(st.integers(0, 30)),
    limit=maybe(st.integers(0, 10)),
    reverse=st.booleans(),
)
one_field = st.one_of(
    *(
        st.builds(Query, **{name: strategy}, limit=maybe(st.integers(0, 10)), reverse=st.booleans())
        for name, strategy in {
            "ids": some(EVENT_IDS),
            "names": some(NAMES),
            "aggregates": some(KINDS),
            "aggregate_ids": some(IDS),
            "refs": some(REFS),
            "since": maybe(times),
            "until": maybe(times),
            "after": st.integers(0, 30),
        }.items()
    )
)


def before(events: Sequence[AnyEvent]) -> dict[AggregateRef, int]:
    """The versions that the events continue."""
    return {event.aggregate: event.version - 1 for event in reversed(events)}


def contradictory(events: Sequence[AnyEvent], guards: Mapping[AggregateRef, int]) -> bool:
    """Whether no store whatever could take the append."""
    reached = before(events)
    if any(guards.get(ref, version) != version for ref, version in reached.items()):
        return True
    for event in events:
        reached[event.aggregate] += 1
        if event.version != reached[event.aggregate]:
            return True
    return False


class Wish(NamedTuple):
    """What is to be appended, whatever has been until then."""

    changes: list[tuple[AggregateRef, Noted | Counted, datetime]]
    wrong: int
    commit_id: UUID
    guards: dict[AggregateRef, int]
    id: UUID | None


wishes = st.builds(
    Wish,
    changes=st.lists(st.tuples(st.sampled_from(REFS), data, times), max_size=4),
    wrong=st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),
    commit_id=st.sampled_from(COMMITS) | st.uuids(),
    guards=st.dictionaries(st.sampled_from(REFS), st.sampled_from([0, 0, 0, 1]), max_size=2),
    id=maybe(st.sampled_from(EVENT_IDS)),
)
Outcome = tuple[int, int, bool] | type[Exception]


def told(outcome: Commit | Exception) -> Outcome:
    """Of an outcome, what the model knows as well."""
    if isinstance(outcome, Exception):
        return type(outcome)
    return outcome.first, outcome.last, outcome.replayed


class Model:
    """What a store is to do, in as few words as possible."""

    def __init__(self) -> None:
        self.log: list[AnyEvent] = []
        self.commits: dict[UUID, tuple[int, int, list[tuple[Any, ...]]]] = {}

    def version(self, ref: AggregateRef) -> int:
        return sum(event.aggregate == ref for event in self.log)

    def append(self, new: NewCommit) -> Outcome:
        events, commit_id, guards = new.events, new.commit_id, new.guards or {}
        assert commit_id is not None
        content = [(e.aggregate, e.version, e.name, e.data) for e in events]
        if contradictory(events, guards):
            return ConcurrencyError
        if commit_id in self.commits:
            first, last, known = self.commits[commit_id]
            return (first, last, True) if known == content else CommitReusedError
        if any(self.version(ref) != version for ref, version in guards.items()):
            return ConcurrencyError
        if any(self.version(ref) != version for ref, version in before(events).items()):
            return ConcurrencyError
        if {event.id for event in events} & {event.id for event in self.log}:
            return EventIdReusedError
        first = len(self.log) + 1
        self.log += [event.at(position) for position, event in enumerate(events, first)]
        self.commits[commit_id] = first, len(self.log), content
        return first, len(self.log), False

    def read(self, query: Query) -> list[AnyEvent]:
        low, high = query.versions
        found = [
            e
            for e in self.log
            if (query.ids is None or e.id in query.ids)
            and (query.names is None or e.name in query.names)
            and (query.aggregates is None or e.aggregate.name in query.aggregates)
            and (query.aggregate_ids is None or e.aggregate.id in query.aggregate_ids)
            and (query.refs is None or e.aggregate in query.refs)
            and (low is None or low <= e.version)
            and (high is None or e.version <= high)
            and (query.since is None or query.since <= e.time)
            and (query.until is None or e.time <= query.until)
            and query.after < e.position
            and (query.to is None or e.position <= query.to)
        ]
        return found[:: -1 if query.reverse else 1][: query.limit]


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to the model, and compares."""

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.storage = storage
        self.store = storage.open()
        self.model = Model()
        self.last: NewCommit | None = None

    @rule(wish=wishes)
    def append(self, wish: Wish) -> None:
        self.last = self._new(wish)
        self._append()

    @precondition(lambda self: self.last is not None)
    @rule()
    def repeat(self) -> None:
        self._append()

    @rule(several=st.lists(wishes, max_size=5))
    def append_each(self, several: list[Wish]) -> None:
        commits, expected = [], []
        for wish in several:
            commits.append(self._new(wish))
            expected.append(self.model.append(commits[-1]))
        assert [told(outcome) for outcome in self.store.append_each(commits)] == expected

    def _new(self, wish: Wish) -> NewCommit:
        """Mostly as it should be; the last version, a guard or the id may be wrong."""
        versions = {ref: self.model.version(ref) for ref in REFS}
        guards = {ref: versions[ref] + off for ref, off in wish.guards.items()}
        events: list[AnyEvent] = []
        for number, (ref, content, time) in enumerate(wish.changes, 1):
            versions[ref] += 1
            last = number == len(wish.changes)
            version = max(1, versions[ref] + (wish.wrong if last else 0))
            id = wish.id if last else None
            events.append(Event.new(ref, version=version, data=content, time=time, id=id))
        return NewCommit(events, wish.commit_id, guards=guards)

    def _append(self) -> None:
        assert self.last is not None
        new = self.last
        expected = self.model.append(new)
        outcome: Commit | Exception
        try:
            outcome = self.store.append(new.events, commit_id=new.commit_id, guards=new.guards)
        except EventSourcingError as error:
            outcome = error
        assert told(outcome) == expected

    @rule(query=queries | one_field)
    def read(self, query: Query) -> None:
        assert list(self.store.read(query)) == self.model.read(query)

    @rule(commit_id=st.sampled_from(COMMITS))
    def find_commit(self, commit_id: UUID) -> None:
        known = self.model.commits.get(commit_id)
        found = self.store.find_commit(commit_id)
        assert (known and known[:2]) == (found and (found.first, found.last))

    @invariant()
    def same_log(self) -> None:
        assert self.store.head() == len(self.model.log)
        assert list(self.store.read()) == self.model.log
        assert self.store.info().kinds == {(e.name, 1) for e in self.model.log}

    def teardown(self) -> None:
        self.store.close()


def test_the_store_behaves_as_the_model(new_storage: NewStorage) -> None:
    class Machine(StoreMachine):
        def __init__(self) -> None:
            super().__init__(new_storage())

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
