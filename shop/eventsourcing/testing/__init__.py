"""For tests of aggregates, commands, projections and workflows."""

from shop.eventsourcing.testing.background import Background
from shop.eventsourcing.testing.clock import Clock, ClockStore
from shop.eventsourcing.testing.scenario import Scenario, aggregate_after

__all__ = ["Background", "Clock", "ClockStore", "Scenario", "aggregate_after"]
