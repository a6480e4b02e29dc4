"""Commands and their outcomes come out of a message as they went in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop.eventsourcing import (
    AggregateNotFoundError,
    Command,
    CommandBus,
    CommandIdReusedError,
    CommandPayload,
    CommandRejected,
    CommandResult,
    CommandTimeoutError,
    Event,
    EventSourcingError,
    Metadata,
    OutcomeUnknownError,
    PayloadError,
    Registry,
    StaleVersionError,
    StoreUnavailableError,
    UnknownCommandError,
)
from shop.eventsourcing.commands.wire import (
    CommandMessage,
    Done,
    Expired,
    Failed,
    answer_of,
    decode_answer,
    decode_command,
    encode_message,
    error_of,
)
from shop.eventsourcing.events.envelope import decode_event
from tests.eventsourcing.bank import BANK, Deposit, Deposited, Open, Opened, account, registry
from tests.eventsourcing.poison import poisoned

COMMANDS: Registry[CommandPayload] = Registry(BANK.handlers)
ADA = account()
ERRORS = [
    CommandRejected("funds-insufficient", "the balance is 3: “no” …"),
    PayloadError("bank.account.open", "Expected `str`, got `int`", "/owner"),
    PayloadError("bank.account.open", "it cannot be encoded"),
    AggregateNotFoundError(ADA),
    StaleVersionError(ADA, expected=3, actual=4),
    CommandIdReusedError(uuid4()),
    CommandTimeoutError("bank.account.open", 7, 1.25),
    UnknownCommandError("bank.account.rob"),
    OutcomeUnknownError(uuid4(), "bank.account.open", 5.0),
    StoreUnavailableError("the database is locked"),
]


def message(command: Command[CommandPayload], **changes: Any) -> CommandMessage:
    payload = COMMANDS.encode(command.payload)
    deadline = datetime.now(UTC) + timedelta(seconds=5)
    made = CommandMessage.of(command, payload, timeout=5.0, deadline=deadline)
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    "command",
    [
        Command.new(Open("Ada")),
        Command.new(Deposit(7), ADA.id, expected_version=3),
        Command.new(
            Open("Ada"), uuid4(), correlation_id=uuid4(), causation_id=uuid4(), actor="eve"
        ),
    ],
)
def test_a_command_arrives_as_it_was_sent(command: Command[CommandPayload]) -> None:
    assert decode_command(encode_message(message(command))).command(COMMANDS) == command


def test_a_command_that_does_not_fit_its_class_is_refused_with_the_field() -> None:
    sent = message(Command.new(Deposit(7), ADA.id), payload=msgspec.Raw(b'{"amount":"much"}'))
    with pytest.raises(PayloadError) as caught:
        decode_command(encode_message(sent)).command(COMMANDS)
    assert caught.value.path == "/amount"


def test_the_time_that_is_left_is_the_shorter_of_two() -> None:
    command = Command.new(Open("Ada"))
    now = datetime.now(UTC)
    assert message(command, deadline=now + timedelta(seconds=60)).left() == 5.0
    assert 1 < message(command, deadline=now + timedelta(seconds=2)).left() <= 2
    assert message(command, deadline=now - timedelta(seconds=1)).left() < 0


def test_a_result_arrives_whole_with_typed_events() -> None:
    events = (
        Event.new(ADA, version=1, data=Opened("Ada"), metadata=Metadata(uuid4(), actor="eve")).at(
            8
        ),
        Event.new(ADA, version=2, data=Deposited(7)).at(9),
    )
    for sent in (
        CommandResult(uuid4(), ADA, 2, 9, events),
        CommandResult(uuid4(), ADA, 2, 9, (), replayed=True),
    ):
        answer = decode_answer(encode_message(Done.of(sent)))
        assert isinstance(answer, Done)
        assert answer.events is not None
        returned = tuple(decode_event(registry(), bytes(event)) for event in answer.events)
        assert answer.result(returned) == sent


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_with_its_class_message_and_attributes(error: EventSourcingError) -> None:
    again = error_of(decode_answer(encode_message(answer_of(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_every_error_that_dispatch_documents_has_a_form_of_its_own() -> None:
    documented = {
        word.split("`")[1]
        for word in (CommandBus.dispatch.__doc__ or "").split(":class:")[1:]
        if word.startswith("`")
    }
    assert documented == {type(error).__name__ for error in ERRORS}


def test_a_refusal_of_a_class_of_its_own_arrives_as_the_one_it_is_made_from() -> None:
    class OutOfStock(CommandRejected):
        pass

    again = error_of(answer_of(OutOfStock("stock-insufficient", "none left")))
    assert type(again) is CommandRejected
    assert str(again) == "stock-insufficient: none left"


def test_an_error_that_nobody_foresaw_is_told_as_that() -> None:
    answer = decode_answer(encode_message(answer_of(ZeroDivisionError("by zero"))))
    assert answer == Failed("ZeroDivisionError: by zero")
    assert error_of(answer) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"outcome":"of the future"}',
        b'{"outcome":"expired","now":"2026-01-01T00:00:00"}',
        b"\xff",
    ],
)
def test_an_answer_that_cannot_be_read_is_a_failure(data: bytes) -> None:
    assert isinstance(decode_answer(data), Failed)


ANSWERS = [
    Done.of(CommandResult(uuid4(), ADA, 2, 9, ())),
    Expired(datetime.now(UTC)),
    *map(answer_of, ERRORS),
]


@given(st.one_of([poisoned(encode_message(answer)) for answer in ANSWERS]))
def test_whatever_a_stranger_answers_can_be_told(data: bytes) -> None:
    assert str(error_of(decode_answer(data)))


def test_members_that_are_not_known_are_passed_over() -> None:
    known = message(Command.new(Open("Ada")))
    more = {**msgspec.json.decode(encode_message(known)), "new": 1}
    assert decode_command(msgspec.json.encode(more)).command(COMMANDS) == known.command(COMMANDS)
