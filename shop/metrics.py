"""What the shop tells Prometheus about itself, apart from HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shop.eventsourcing import (
    Commit,
    ConcurrencyError,
    DelegatingStore,
    EventStore,
    FollowerState,
    NewCommit,
    StoreError,
)
from shop.health import Health, health_of
from shop.runtime import Shop


class MeteredStore(DelegatingStore):
    """Wraps an event store and counts, in ``metrics``, what is appended through it.

    Thread-safe.
    """

    def __init__(self, store: EventStore, metrics: CollectorRegistry) -> None:
        super().__init__(store)
        self._appends = Counter("shop_appends", "Commits stored", registry=metrics)
        self._events = Counter("shop_appended_events", "Events stored", registry=metrics)
        self._conflicts = Counter(
            "shop_conflicts", "Appends refused because of a conflicting one", registry=metrics
        )

    def append_each(self, commits: Sequence[NewCommit]) -> list[Commit | Exception]:
        """Do the appends and count them. A replayed commit was counted when it was stored."""
        outcomes = super().append_each(commits)
        for outcome in outcomes:
            if isinstance(outcome, ConcurrencyError):
                self._conflicts.inc()
            elif isinstance(outcome, Commit) and not outcome.replayed:
                self._appends.inc()
                self._events.inc(outcome.size)
        return outcomes


class ShopCollector(Collector):
    """Looks at the shop whenever the metrics are asked for.

    Figures that need a store which cannot be reached are left out meanwhile.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def describe(self) -> list[Metric]:
        """Nothing: to register this must not look into the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The head of the log, how far projections are behind it, how workflows get on."""
        health = health_of(self._shop)
        position = _by_projection("position", "The position that the read models have reached")
        lag_events = _by_projection("lag_events", "Events in the log beyond that position")
        lag_seconds = _by_projection(
            "lag_seconds", "Age of the oldest event that the read models lack, 0 without one"
        )
        failed = _by_projection("failed", "1 when the projection stands still after a failure")
        for projection in health.projections:
            labels = [projection.name]
            position.add_metric(labels, projection.position)
            if projection.state is not FollowerState.ELSEWHERE:
                failed.add_metric(labels, projection.state is FollowerState.FAILED)
            if health.head is None:
                continue  # to ask the store once more would only take its time-out once more
            lag_events.add_metric(labels, max(0, health.head - projection.position))
            with suppress(StoreError):
                names = self._shop.progress[projection.name].projection.event_names
                lag_seconds.add_metric(labels, self._shop.lag_seconds(names, projection.position))
        if health.head is not None:
            yield GaugeMetricFamily("shop_head", "The last position of the log", health.head)
        yield from (position, lag_events, lag_seconds, failed)
        for status in self._shop.bus_statuses():
            for name, value in status.figures.items():
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                yield kind(f"shop_bus_{name}", f"The event bus: {name.replace('_', ' ')}", value)
            relayed = status.figures.get("relay_position")
            if relayed is not None and health.head is not None:
                lag = max(0, health.head - relayed)
                yield GaugeMetricFamily("shop_bus_relay_lag", "Events not in the stream yet", lag)
        yield from _workflows(health)


def _workflows(health: Health) -> Iterator[Metric]:
    def gauge(name: str, documentation: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"shop_workflow_{name}", documentation, labels=["workflow"])

    position = gauge("position", "The position that the workflow has reacted to")
    lag = gauge("lag_events", "Events in the log beyond that position")
    failed = gauge("failed", "1 when the workflow or its timers stand still after a failure")
    late = gauge("timers_late_seconds", "How long the earliest timer is due already")
    fired = CounterMetricFamily(
        "shop_workflow_timers_fired", "Timers fired by this process", labels=["workflow"]
    )
    parked = gauge("parked", "Instances that stand still since they failed")
    for status in health.workflows:
        reactions, timers = status.reactions, status.timers
        labels = [reactions.name]
        position.add_metric(labels, reactions.position)
        if health.head is not None:
            lag.add_metric(labels, max(0, health.head - reactions.position))
        failed.add_metric(labels, FollowerState.FAILED in {reactions.state, timers.state})
        late.add_metric(labels, timers.late)
        fired.add_metric(labels, timers.fired)
    for name, count in (health.parked or {}).items():
        parked.add_metric([name], count)
    yield from (position, lag, failed, late, fired, parked)


def _by_projection(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"shop_projection_{name}", documentation, labels=["projection"])
