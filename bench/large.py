"""Logs of a million events, a tenth of them in models: the cost of appending, reading, starting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import islice
from statistics import median
from threading import Event as Flag
from time import monotonic, perf_counter

from bench.appends import lone
from bench.measure import Bench, Row, Samples
from bench.sample import adjustments, business, fill, removals
from bench.servers import serving
from shop.backends.memory import MemoryEventBus
from shop.bootstrap import PROJECTIONS, event_registry, open_event_store
from shop.domain.payment_workflow import PaymentWorkflow
from shop.eventsourcing import AggregateRef, EventStore, ProjectionRunner, Query
from shop.eventsourcing.models.model_store import Checkpoint
from shop.eventsourcing.workflows.reactions import Reactions
from shop.stores import open_backend
from tests.real.mongodb import MongoServer
from tests.real.postgres import PostgresServer

_EVENTS = 1_000_000
_OF_EACH = 10
_STREAMS = 200
_SECONDS = 0.4
_ROUNDS = 8
_FLAT = 1.25
_READY = 2.0
_STARTS = 3
_PATIENCE = 600.0


def run(bench: Bench) -> Iterator[Row]:
    """On SQLite, PostgreSQL and MongoDB, beside the same store with nothing in it."""
    directory = bench.directory
    yield from _kind(bench, "SQLite", lambda name: f"sqlite:///{directory / name}.db")
    with PostgresServer() as postgres:
        yield from _kind(bench, "PostgreSQL", postgres.url)
    with MongoServer(replica_set=False) as mongodb:
        yield from _kind(bench, "MongoDB", mongodb.url)


def _kind(bench: Bench, kind: str, url: Callable[[str], str]) -> Iterator[Row]:
    bench.say(f"large: writing {_EVENTS:,} events, {kind}")
    with ExitStack() as opened:
        empty, full = (
            opened.enter_context(open_event_store(url(name), event_registry()))
            for name in ("empty", "full")
        )
        fill(full, business(), _EVENTS // 10)
        fill(full, removals(_OF_EACH), _EVENTS - _EVENTS // 10)
        os.sync()  # or the disk would be busy with that for a while
        known = {"full": _new_streams(full), "empty": _new_streams(empty)}
        bench.say(f"large: reading and appending, {kind}")
        reads = bench.in_turns(
            {
                "full": lambda: _microseconds(full, known["full"]),
                "empty": lambda: _microseconds(empty, known["empty"]),
            },
            rounds=_ROUNDS,
        )
        appends = bench.in_turns(
            {
                "full": lone(full, adjustments(_OF_EACH), seconds=_SECONDS),
                "empty": lone(empty, adjustments(_OF_EACH), seconds=_SECONDS),
            },
            rounds=_ROUNDS,
        )
    yield _row(f"{kind}: append (beside: to an empty store)", "events/s", appends, least=1 / _FLAT)
    yield _row(f"{kind}: read one of {_OF_EACH} events (beside: few)", "µs", reads, most=_FLAT)
    bench.say(f"large: making the read models, {kind}")
    _project(url("full"))
    bench.say(f"large: starting, {kind}")
    seconds = median(_start(bench, url("full")) for _ in range(_STARTS))
    yield Row(
        theme="large",
        what=f"{kind}: ready after the start of the process",
        unit="s",
        ours=seconds,
        target=f"< {_READY:g}",
        met=seconds < _READY,
    )


def _row(
    what: str,
    unit: str,
    samples: Samples,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Row:
    ratio = samples.ratio("full", "empty")
    return Row(
        theme="large",
        what=what,
        unit=unit,
        ours=samples.typical("full"),
        raw=samples.typical("empty"),
        ratio=ratio,
        target=f"ratio ≥ {least:g}" if least else f"ratio ≤ {most:g}",
        met=(least is None or ratio >= least) and (most is None or ratio <= most),
    )


def _new_streams(store: EventStore) -> Sequence[AggregateRef]:
    """Some products that are in the store now."""
    refs = []
    events = adjustments(_OF_EACH)
    for _ in range(_STREAMS):
        stream = list(islice(events, _OF_EACH))
        store.append(stream)
        refs.append(stream[0].aggregate)
    return refs


def _microseconds(store: EventStore, refs: Sequence[AggregateRef]) -> float:
    """What the events of one aggregate cost to read."""
    began = perf_counter()
    for ref in refs:
        found = sum(1 for _ in store.read(Query(refs=[ref])))
        if found != _OF_EACH:
            raise RuntimeError(f"{ref} has {found} events")
    return (perf_counter() - began) / len(refs) * 1e6


def _project(url: str) -> None:
    """Make all read models, and let the workflow begin after what there is."""
    backend = open_backend(url)
    with backend.events(event_registry()) as store, closing(MemoryEventBus()) as bus:
        head = store.head()
        for projection in PROJECTIONS:
            runner = ProjectionRunner(projection, store, backend.models, bus)
            runner.start()
            if not runner.wait_for(head, _PATIENCE):
                raise TimeoutError(f"{runner.name} did not catch up: {runner.status()}")
            runner.close(_PATIENCE)
        flow = PaymentWorkflow(deadline=1.0)
        begun = Checkpoint(flow.name, 1, head, Reactions.shape, store.info().identity)
        backend.models.commit(None, begun)


def _start(bench: Bench, url: str) -> float:
    """Seconds from the start of a process until it says that it is ready, with current models."""
    began = monotonic()
    with serving("wsgi:app", bench.directory, SHOP_EVENT_STORE=url) as port:
        while True:
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/readyz")
            answer = json.loads(connection.getresponse().read())
            connection.close()
            if answer["ready"]:
                if any(projection["lag"] for projection in answer["projections"]):
                    raise RuntimeError(f"the read models were not current: {answer}")
                return monotonic() - began
            Flag().wait(0.01)
