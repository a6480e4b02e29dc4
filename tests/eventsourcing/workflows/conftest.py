"""Workflows that are moved step by step, on a clock of the test's, on each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import pytest

from shop.eventsourcing import Aggregates, Query
from tests.clockwork import Node, Stage
from tests.eventsourcing.bank import Account
from tests.eventsourcing.reminders import MODULES, Reminder, Reminders
from tests.stores import KINDS


@pytest.fixture(params=KINDS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with ExitStack() as opened:
        yield Stage(KINDS[request.param](request)(), MODULES, opened)


@pytest.fixture
def workflow() -> Reminders:
    return Reminders()


@pytest.fixture
def node(stage: Stage, workflow: Reminders) -> Node:
    return stage.node(workflow)


def names(node: Node, id: UUID) -> list[str]:
    """What an instance recorded."""
    events = node.events.read(Query(aggregates=[Reminder.kind], aggregate_ids=[id]))
    return [event.name.removeprefix("workflow.") for event in events]


def balance(node: Node, id: UUID) -> int:
    return Aggregates(node.events).load(Account, id).balance
