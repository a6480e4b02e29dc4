"""Commands dispatched in one place and carried out in another, over a real NATS."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from shop.eventsourcing import (
    Aggregate,
    AggregateNotFoundError,
    Aggregates,
    Command,
    CommandBus,
    CommandIdReusedError,
    CommandPayload,
    CommandRejected,
    CommitInDoubtError,
    Module,
    NoWorkerError,
    OutcomeUnknownError,
    PayloadError,
    RemoteCommandBus,
    StaleVersionError,
    StoreError,
    StoreUnavailableError,
    UnitOfWork,
    UnknownCommandError,
    UnknownEventData,
    WorkerFailedError,
    aggregate,
    command,
)
from shop.eventsourcing.commands.wire import GROUP, Done, command_subject, encode_message
from tests.conftest import Eventually
from tests.eventsourcing.bank import (
    BANK,
    Deposit,
    Deposited,
    Open,
    Opened,
    Withdraw,
    account,
    booked,
    open_account,
)
from tests.eventsourcing.commands.remote.conftest import (
    Gate,
    LosesAnswers,
    LosesAnswersOfTheDead,
    LosesTheStore,
    Requests,
    Workers,
    counted,
)
from tests.eventsourcing.conftest import Stores

ADA = account()


class TestOutcomes:
    """Whoever dispatches cannot tell the difference."""

    def test_the_result_is_that_of_the_worker_with_typed_events(
        self, remote: RemoteCommandBus, workers: Workers, memory_stores: Stores
    ) -> None:
        workers.start()
        wanted = Command.new(Open("Ada"), actor="eve", correlation_id=uuid4())

        result = remote.dispatch(wanted)

        assert result.events == tuple(memory_stores.events.read())
        assert [event.data for event in result.events] == [Opened("Ada")]
        assert result.events[0].metadata == wanted.metadata
        local = CommandBus(memory_stores.events, Aggregates(memory_stores.events), [BANK])
        again = local.dispatch(wanted)
        assert again == msgspec.structs.replace(result, replayed=True)
        assert remote.dispatch(wanted) == again

    @pytest.mark.parametrize(
        "wanted",
        [
            Command.new(Withdraw(1000), ADA.id),
            Command.new(Deposit(1), uuid4()),
            Command.new(Deposit(1), ADA.id, expected_version=7),
            Command.new(Deposit(1), ADA.id, id=UUID(int=7)),
            Command.new(Deposit("much"), ADA.id),  # type: ignore[arg-type] # it is wrong
        ],
        ids=["rejected", "not-found", "stale", "id-reused", "payload"],
    )
    def test_the_error_is_that_of_the_worker(
        self,
        remote: RemoteCommandBus,
        workers: Workers,
        memory_stores: Stores,
        wanted: Command[CommandPayload],
    ) -> None:
        workers.start()
        memory_stores.events.append(booked(ADA, 10), commit_id=UUID(int=7))
        local = CommandBus(memory_stores.events, Aggregates(memory_stores.events), [BANK])
        expected = (
            CommandRejected,
            AggregateNotFoundError,
            StaleVersionError,
            CommandIdReusedError,
            PayloadError,
        )
        with pytest.raises(expected) as here:
            local.dispatch(wanted)
        with pytest.raises(type(here.value)) as there:
            remote.dispatch(wanted)
        assert type(there.value) is type(here.value)
        assert str(there.value) == str(here.value)
        assert vars(there.value) == vars(here.value)

    def test_a_command_that_is_not_in_the_registry_is_unknown(
        self, remote: RemoteCommandBus, workers: Workers
    ) -> None:
        @command("bank.account.rob", creates=True)
        class Rob(CommandPayload, frozen=True):
            pass

        workers.start()
        with pytest.raises(UnknownCommandError, match=r"bank\.account\.rob"):
            remote.dispatch(Command.new(Rob()))

    def test_a_command_must_be_named_after_an_aggregate(
        self, requests: Requests, memory_stores: Stores
    ) -> None:
        @command("bank.acount.rob", creates=True)
        class Rob(CommandPayload, frozen=True):
            pass

        with pytest.raises(ValueError, match=r"^bank\.acount\.rob "):
            RemoteCommandBus(
                requests(), memory_stores.events, [Module(BANK.aggregates, {Rob: open_account})]
            )

    def test_an_error_that_nobody_foresaw_is_logged_where_it_was_and_told(
        self, remote: RemoteCommandBus, workers: Workers, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(payload: Open, id: UUID, work: UnitOfWork) -> None:
            raise ZeroDivisionError("by zero")

        workers.start(module=Module(BANK.aggregates, {**BANK.handlers, Open: fail}))
        wanted = Command.new(Open("Ada"))
        with pytest.raises(WorkerFailedError, match=f"{wanted.id}.*ZeroDivisionError: by zero"):
            remote.dispatch(wanted)
        [record] = [r for r in caplog.records if r.name == "shop.eventsourcing.commands.worker"]
        assert str(wanted.id) in record.getMessage()
        assert record.exc_info is not None

    def test_what_a_newer_worker_recorded_is_told_although_it_cannot_be_read(
        self, requests: Requests, workers: Workers, memory_stores: Stores
    ) -> None:
        workers.start()

        @aggregate("bank.account")
        class OlderAccount(Aggregate):
            """It does not know what happens to accounts now."""

        module = Module((OlderAccount,), BANK.handlers)
        older = RemoteCommandBus(requests(), memory_stores.events, [module])

        result = older.dispatch(Command.new(Open("Ada")))

        [recorded] = memory_stores.events.read()
        unknown = UnknownEventData(b'{"owner":"Ada"}')
        assert result.events == (msgspec.structs.replace(recorded, data=unknown),)

    @pytest.mark.parametrize(
        "odd",
        [
            {"command_id": UUID(int=1)},
            {"size": 2},
            {"events": [msgspec.Raw(b"1")]},
            {"events": None, "size": 3},
            {"events": None, "position": 9},
        ],
        ids=str,
    )
    def test_an_answer_that_does_not_fit_the_command_is_not_believed(
        self, requests: Requests, memory_stores: Stores, odd: dict[str, Any]
    ) -> None:
        wanted = Command.new(Open("Ada"))
        done = Done(wanted.id, wanted.aggregate, 1, 1, 1, [], replayed=False)
        answer = encode_message(msgspec.structs.replace(done, **odd))
        subject = command_subject(memory_stores.events.info().identity, "bank.account.open")
        requests().serve([subject], GROUP, lambda request: request.answer(answer))
        remote = RemoteCommandBus(requests(), memory_stores.events, [BANK])
        with pytest.raises(WorkerFailedError, match="its answer 'done' does not fit the command"):
            remote.dispatch(wanted)

    def test_the_registry_is_that_of_the_command_bus(
        self, remote: RemoteCommandBus, memory_stores: Stores
    ) -> None:
        local = CommandBus(memory_stores.events, Aggregates(memory_stores.events), [BANK])
        assert list(remote.registry) == list(local.registry)


class TestDoneOnce:
    def test_a_lost_answer_is_asked_for_again_under_the_same_id(
        self, memory_stores: Stores, requests: Requests, workers: Workers
    ) -> None:
        workers.start()
        memory_stores.events.append(booked(ADA, 10))
        bus = LosesAnswers(requests(), 2)
        remote = RemoteCommandBus(bus, memory_stores.events, [BANK])

        result = remote.dispatch(Command.new(Deposit(5), ADA.id))

        assert [event.data for event in result.events] == [Deposited(5)]
        assert len(bus.sent) == 3
        assert len({message.id for message in bus.sent}) == 1
        assert [message.given_up_before for message in bus.sent] == [False, True, True]
        assert memory_stores.events.head() == 3
        assert counted(remote) == {"sent": 1, "unanswered": 2, "retried": 2}

    @pytest.mark.parametrize(
        "error", [StoreUnavailableError("the cable is out"), CommitInDoubtError("it was cut")]
    )
    def test_a_worker_that_has_lost_the_store_does_not_know_what_became_of_it_before(
        self, memory_stores: Stores, requests: Requests, workers: Workers, error: StoreError
    ) -> None:
        memory_stores.events.append(booked(ADA, 10))
        for lost, dispatch_ends in ((2, nullcontext()), (99, pytest.raises(OutcomeUnknownError))):
            bus = LosesTheStore(requests(), lost, error)
            worker = workers.start(module=bus.module)
            remote = RemoteCommandBus(bus, memory_stores.events, [BANK])
            with dispatch_ends:
                result = remote.dispatch(Command.new(Deposit(5), ADA.id), timeout=1)
                assert [event.data for event in result.events] == [Deposited(5)]
                assert counted(remote) == {"sent": 1, "unanswered": 3, "retried": 3}
            worker.close(5)
        assert memory_stores.events.head() == 4

    def test_a_refusal_that_got_lost_is_judged_anew_and_is_final_then(
        self, memory_stores: Stores, requests: Requests, workers: Workers
    ) -> None:
        workers.start()
        memory_stores.events.append(booked(ADA, 10))
        for lost in (0, 1):
            remote = RemoteCommandBus(LosesAnswers(requests(), lost), memory_stores.events, [BANK])
            refused = Command.new(Withdraw(1000), ADA.id)
            with pytest.raises(CommandRejected, match="funds-insufficient"):
                remote.dispatch(refused)
            known = memory_stores.events.find_commit(refused.id)
            assert (known is not None) == bool(lost), "only after a silence the refusal is final"

    def test_a_worker_that_never_answers_is_waited_for_until_the_time_is_over(
        self, remote: RemoteCommandBus, workers: Workers, memory_stores: Stores
    ) -> None:
        gate = Gate()
        workers.start(module=gate.module, threads=4)
        wanted = Command.new(Open("Ada"))
        began = time.monotonic()
        with pytest.raises(OutcomeUnknownError) as caught:
            remote.dispatch(wanted, timeout=1.5)
        assert 1.5 <= time.monotonic() - began < 3
        assert caught.value.command_id == wanted.id
        assert str(wanted.id) in str(caught.value)
        assert gate.waiting == [wanted.id] * 2, "it was sent again in the meantime"
        assert counted(remote) == {"sent": 1, "unanswered": 2, "retried": 1, "outcome_unknown": 1}

        gate.open.set()
        assert remote.dispatch(wanted).replayed in {True, False}
        workers.close()
        assert memory_stores.events.head() == 1

    def test_when_the_only_worker_goes_meanwhile_the_outcome_is_unknown(
        self, memory_stores: Stores, requests: Requests
    ) -> None:
        remote = RemoteCommandBus(LosesAnswersOfTheDead(requests()), memory_stores.events, [BANK])
        with pytest.raises(OutcomeUnknownError):
            remote.dispatch(Command.new(Open("Ada")), timeout=0.3)

    def test_whoever_stops_does_not_wait_for_the_time_to_be_over(
        self, remote: RemoteCommandBus, workers: Workers, eventually: Eventually
    ) -> None:
        gate = Gate()
        workers.start(module=gate.module)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(remote.dispatch, Command.new(Open("Ada")), timeout=60)
            eventually(lambda: gate.waiting)
            remote.stop()
            with pytest.raises(OutcomeUnknownError):
                waiting.result(timeout=5)
        gate.open.set()

    def test_whoever_stops_begins_none_of_those_that_are_left(
        self, remote: RemoteCommandBus, workers: Workers, eventually: Eventually
    ) -> None:
        gate = Gate()
        workers.start(module=gate.module)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(
                remote.dispatch_each, [Command.new(Open("Ada")) for _ in range(50)]
            )
            eventually(lambda: gate.waiting)
            remote.stop()
            first, *others = waiting.result(timeout=5)
        gate.open.set()
        assert isinstance(first, OutcomeUnknownError)
        assert {type(outcome) for outcome in others} == {NoWorkerError}
