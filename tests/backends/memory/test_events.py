"""The memory store keeps what the others would keep."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from shop.backends.memory import MemoryEventStore
from shop.eventsourcing import Event, EventData, Registry, event
from tests.notebook import note


@event("notebook.measured")
class Measured(EventData, frozen=True):
    length: float
    details: Any


def test_what_is_read_is_what_json_makes_of_it() -> None:
    store = MemoryEventStore(Registry([Measured]))
    details = {"pair": (1, 2), 3: UUID(int=3), "price": Decimal("1.50")}
    store.append([Event.new(note(), version=1, data=Measured(1, details))])
    details["pair"] = (4, 5)

    [found] = store.read()

    assert found.data == Measured(1.0, {"pair": [1, 2], "3": str(UUID(int=3)), "price": "1.50"})
    assert isinstance(found.data, Measured)
    assert isinstance(found.data.length, float)
