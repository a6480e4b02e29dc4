"""The threads of a workflow: woken, several at once, killed, cut off from their store, closed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shop.backends.memory import MemoryEventBus
from shop.eventsourcing import (
    Aggregates,
    Command,
    CommandBus,
    CommandRejected,
    Commit,
    DelegatingStore,
    EventStore,
    FollowerState,
    NewCommit,
    Phase,
    ProjectionRunner,
    Query,
    StoreUnavailableError,
    TimerFired,
    WorkflowRunner,
)
from tests.clockwork import Frail, Fuse, Stage
from tests.conftest import Eventually
from tests.eventsourcing.bank import Account, Deposit, Open
from tests.eventsourcing.dying_workflow import run
from tests.eventsourcing.reminders import MODULES, PATIENCE, Reminder, Reminders
from tests.stores import KINDS

ADA = uuid4()
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    return KINDS[request.param](request)()


@pytest.fixture
def stage(url: str) -> Iterator[Stage]:
    with ExitStack() as opened:
        yield Stage(url, MODULES, opened)


class Program:
    """What one process runs."""

    def __init__(
        self, stage: Stage, wrap: Callable[[EventStore], EventStore] | None = None
    ) -> None:
        events, models = stage.open()
        self.workflow = Reminders()
        store: EventStore = Frail(events, stage.clock, Fuse())
        self.events = store if wrap is None else wrap(store)
        self.listing: ProjectionRunner
        self.runner: WorkflowRunner
        self.commands: CommandBus
        self.listing, self.runner, self.commands = run(self.events, models, self.workflow)

    @contextmanager
    def running(self) -> Iterator[Program]:
        self.listing.start()
        self.runner.start()
        try:
            yield self
        finally:
            assert self.runner.close(5)
            assert self.listing.close(5)

    def open(self, owner: str = "Ada", id: UUID | None = None) -> UUID:
        """The id of a new account, with 13 on it."""
        account = id or uuid4()
        self.commands.dispatch(Command.new(Open(owner), account))
        self.commands.dispatch(Command.new(Deposit(13), account))
        return account

    def phase(self, id: UUID) -> Phase | None:
        return Aggregates(self.events).load(Reminder, id).phase

    def balance(self, id: UUID) -> int:
        return Aggregates(self.events).load(Account, id).balance


def test_it_reacts_fires_and_has_commands_carried_out(stage: Stage, eventually: Eventually) -> None:
    with Program(stage).running() as program:
        accounts = [program.open() for _ in range(20)]
        eventually(lambda: {program.phase(id) for id in accounts} == {Phase.RUNNING})
        stage.clock.advance(PATIENCE + 1)
        eventually(lambda: {program.phase(id) for id in accounts} == {Phase.COMPENSATED})
        assert {program.balance(id) for id in accounts} == {8}
        status = program.runner.status()
        assert (status.reactions.state, status.timers.state) == ("running", "running")
        eventually(lambda: program.runner.status().timers.fired == 20)


def test_several_at_once_do_everything_once(stage: Stage, eventually: Eventually) -> None:
    with ExitStack() as running:
        programs = [running.enter_context(Program(stage).running()) for _ in range(3)]
        accounts = [programs[number % 3].open() for number in range(30)]
        eventually(lambda: {programs[0].phase(id) for id in accounts} == {Phase.RUNNING})
        stage.clock.advance(PATIENCE + 1)
        eventually(lambda: {programs[0].phase(id) for id in accounts} == {Phase.COMPENSATED})
        head = programs[0].events.head()
        assert all(program.runner.wait_for(head, 10) for program in programs)
        assert programs[0].events.head() == head
        fired = list(programs[0].events.read(Query(names=[TimerFired.wire.name])))
        assert len(fired) == 30
        assert {programs[0].balance(id) for id in accounts} == {8}


class CutOff(DelegatingStore):
    """A store that cannot be reached for a while."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.down = threading.Event()

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        self._check()
        return super().append_each(commits)

    def head(self) -> int:
        self._check()
        return super().head()

    def _check(self) -> None:
        if self.down.is_set():
            raise StoreUnavailableError("the cable is out")


def test_an_outage_of_the_store_is_waited_out_and_parks_nothing(
    stage: Stage, eventually: Eventually
) -> None:
    cut: list[CutOff] = []

    def wrap(store: EventStore) -> EventStore:
        cut.append(CutOff(store))
        return cut[-1]

    with Program(stage, wrap).running() as program:
        account = program.open()
        eventually(lambda: program.phase(account) == Phase.RUNNING)
        assert program.listing.wait_for(program.events.head(), 10)
        cut[0].down.set()
        stage.clock.advance(PATIENCE + 1)
        eventually(lambda: program.runner.status().timers.failure is not None)
        eventually(lambda: program.runner.status().reactions.failure is not None)
        status = program.runner.status()
        assert status.timers.state == status.reactions.state == FollowerState.FAILED
        cut[0].down.clear()
        eventually(lambda: program.phase(account) == Phase.COMPENSATED)
        eventually(lambda: program.runner.status().timers.failure is None)
        assert not Aggregates(program.events).load(Reminder, account).parked


def test_a_parked_one_is_retried(stage: Stage, eventually: Eventually) -> None:
    with Program(stage).running() as program:
        program.workflow.broken = True
        account = program.open()

        def parked() -> bool:
            return Aggregates(program.events).load(Reminder, account).parked

        eventually(parked)
        program.workflow.broken = False
        program.runner.retry(account)
        eventually(lambda: not parked())
        with pytest.raises(CommandRejected, match="not-parked"):
            program.runner.retry(account)


def test_it_ends_with_the_bus() -> None:
    bus = MemoryEventBus()
    with ExitStack() as opened:
        stage = Stage("memory://", MODULES, opened)
        program = Program(stage)
        program.listing.start()
        program.runner.start()
        assert program.runner.close(5)
        assert program.runner.close(5)
        status = program.runner.status()
        assert status.timers.state == status.reactions.state == FollowerState.STOPPED
        assert program.listing.close(5)
    bus.close()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(4))
def test_after_a_sudden_death_the_next_process_finishes(
    tmp_path: Path, eventually: Eventually, number: int, moment: str
) -> None:
    """At each of the four appends: it fires, reacts, withdraws, and reacts to that."""
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    with ExitStack() as opened:
        stage = Stage(url, MODULES, opened)
        program = Program(stage)
        program.open(id=ADA)
        with program.running():
            eventually(lambda: program.phase(ADA) == Phase.RUNNING)
            assert program.listing.wait_for(program.events.head(), 10)
        command = [
            "tests.eventsourcing.dying_workflow",
            url,
            str(PATIENCE + 1),
            str(number),
            moment,
        ]
        died = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL

        stage.clock.advance(PATIENCE + 1)
        with Program(stage).running() as program:
            eventually(lambda: program.phase(ADA) == Phase.COMPENSATED)
            assert program.balance(ADA) == 8
            assert len(list(program.events.read(Query(names=[TimerFired.wire.name])))) == 1
