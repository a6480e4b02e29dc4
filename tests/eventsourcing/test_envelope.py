"""Events as messages: read back as they were, and as their schema says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import jsonschema
import pytest

from shop.bootstrap import event_registry
from shop.domain.product import ProductCreated
from shop.eventsourcing import AggregateRef, Event, EventDecodeError, Metadata
from shop.eventsourcing.envelope import (
    EnvelopeError,
    OmittedDataError,
    decode_event,
    encode_event,
    event_schemas,
)

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
    assert validator.is_valid(json.loads(encode_event(EVENT, omit_data=True)))
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
    with pytest.raises(EnvelopeError):
        decode_event(event_registry(), whole.replace(b'"position":7', b'"position":0'))
    with pytest.raises(EventDecodeError, match="newer"):
        decode_event(event_registry(), whole.replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(OmittedDataError):
        decode_event(event_registry(), encode_event(EVENT, omit_data=True))
