"""Events as messages: read back as they were, and as their schema says."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop.bootstrap import event_registry
from shop.domain.product import ProductCreated
from shop.eventsourcing import AggregateRef, Event, EventDecodeError, Metadata
from shop.eventsourcing.events.envelope import (
    EnvelopeError,
    OmittedDataError,
    decode_event,
    encode_event,
    event_schemas,
)
from tests.eventsourcing.poison import poisoned

EVENT = Event.new(
    AggregateRef("shop.product", uuid4()),
    version=1,
    data=ProductCreated("Mouse", 50),
    metadata=Metadata(command_id=uuid4()),
    time=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
).at(7)


def test_a_message_is_read_back_as_the_event_that_it_was_made_of() -> None:
    assert decode_event(event_registry(), encode_event(EVENT)) == EVENT


def test_messages_are_as_the_schema_says_and_others_are_not() -> None:
    schema = event_schemas(event_registry())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    message = json.loads(encode_event(EVENT))
    assert validator.is_valid(message)
    assert validator.is_valid(json.loads(encode_event(EVENT, href="/events/1")))
    assert not validator.is_valid(message | {"data": {"name": 5}})
    assert not validator.is_valid(message | {"name": "shop.nothing"})


def test_the_schema_has_the_data_of_every_event() -> None:
    assert {cls.wire.name for cls in event_registry()} < set(
        event_schemas(event_registry())["$defs"]
    )


def test_what_cannot_be_read_says_why() -> None:
    whole = encode_event(EVENT)
    with pytest.raises(EnvelopeError):
        decode_event(event_registry(), whole[:-1])
    for number in (b'"position":7', b'"schema":1', b'"version":1'):
        for wrong in (0, -(10**6), 2**63):
            member = b"%s:%d" % (number.partition(b":")[0], wrong)
            with pytest.raises(EnvelopeError, match="Expected `int`"):
                decode_event(event_registry(), whole.replace(number, member))
    with pytest.raises(EventDecodeError, match="newer"):
        decode_event(event_registry(), whole.replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(OmittedDataError):
        decode_event(event_registry(), encode_event(EVENT, href="/events/1"))


REGISTRY = event_registry()
WHOLE = encode_event(EVENT)
TIME = b'"2026-01-02T03:04:05.000006Z"'


@pytest.mark.parametrize(
    "message",
    [
        WHOLE.replace(b"{", b'{"x":' + b"[" * 100_000, 1),
        WHOLE.replace(b'"data":{', b'"data":{"x":' + b"[" * 100_000),
        WHOLE.replace(TIME, b'"0001-01-01T00:00:00+01:00"'),
        WHOLE.replace(TIME, b'"9999-12-31T23:59:59-01:00"'),
        WHOLE.replace(b"shop.product.created", b"shop.product.create\xff"),
    ],
)
def test_what_python_cannot_hold_is_no_event(message: bytes) -> None:
    assert message != WHOLE
    with pytest.raises(EnvelopeError):
        decode_event(event_registry(), message)


def spliced(start: int, length: int, put: bytes) -> bytes:
    return WHOLE[:start] + put + WHOLE[start + length :]


@settings(max_examples=500)
@given(
    poisoned(WHOLE)
    | st.builds(spliced, st.integers(0, len(WHOLE) - 1), st.integers(0, 20), st.binary(max_size=20))
)
def test_whatever_a_stranger_sends_is_an_event_or_is_said_to_be_none(message: bytes) -> None:
    tracemalloc.start()
    with suppress(EnvelopeError, EventDecodeError, OmittedDataError):
        assert decode_event(REGISTRY, message).position
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000
