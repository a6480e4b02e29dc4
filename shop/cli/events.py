"""``python -m shop events`` and ``python -m shop schemas``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from shop.application import application_of
from shop.bootstrap import open_event_store
from shop.cli.arguments import Commands, position, positive
from shop.cli.existing import must_exist, settings_of
from shop.eventsourcing import Query
from shop.eventsourcing.commands.module import aggregate_classes
from shop.eventsourcing.events.envelope import event_schemas
from shop.eventsourcing.suggestions import near_or_known
from shop.process import EXIT_MISUSED, fail
from shop.web.shapes import StoredEvent

POLL = 0.5
"""Seconds between two looks at the log when following it."""


def add_to(commands: Commands) -> None:
    """Add both commands to a parser."""
    parser = commands.add_parser(
        "events",
        help="print the log, as JSON lines",
        description="Print the events in the order of their positions, one JSON object a line, as"
        " GET /events shows them. The shop may be running meanwhile. Options of different kinds all"
        " have to match; of one given several times, any.",
    )
    parser.add_argument(
        "--after", type=position, default=0, metavar="N", help="only events after this position"
    )
    parser.add_argument("--name", action="append", metavar="NAME", help="only events of this name")
    parser.add_argument(
        "--aggregate", action="append", metavar="NAME", help="only of this kind of aggregate"
    )
    parser.add_argument(
        "--id",
        action="append",
        type=UUID,
        metavar="UUID",
        help="only of the aggregate with this id",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="at most this many events, then end"
    )
    parser.add_argument(
        "--follow", action="store_true", help="wait for further events, until Ctrl-C"
    )
    parser.set_defaults(run=_print_events)
    schemas = commands.add_parser(
        "schemas",
        help="print the JSON Schema of all events",
        description="Print the JSON Schema (2020-12) of the messages that tell other programs of"
        " events; under $defs is that of each event's data. docs/events.md says more.",
    )
    schemas.set_defaults(run=_print_schemas)


def _check_known(what: str, wanted: Sequence[str] | None, names: Sequence[str]) -> None:
    """End the process unless all that is wanted is known."""
    for name in wanted or ():
        if name not in names:
            fail(f"there is no {what} {name!r}; {near_or_known(name, names)}", EXIT_MISUSED)


def _print_schemas(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    registry = application_of(settings_of(environ)).registry
    document = msgspec.json.encode(event_schemas(registry))
    sys.stdout.buffer.write(msgspec.json.format(document) + b"\n")
    return 0


def _print_events(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = settings_of(environ)
    application = application_of(settings)
    registry = application.registry
    _check_known("event", arguments.name, [event.wire.name for event in registry])
    aggregates = sorted(aggregate_classes(application.modules))
    _check_known("aggregate", arguments.aggregate, aggregates)
    must_exist(settings.event_store, "SHOP_EVENT_STORE")
    after: int = arguments.after
    left: int | None = arguments.limit
    with open_event_store(settings.event_store, registry) as store:
        while True:
            head = store.head()
            query = Query(
                names=arguments.name,
                aggregates=arguments.aggregate,
                aggregate_ids=arguments.id,
                after=after,
                to=head,
                limit=left,
            )
            printed = 0
            for event in store.read(query):
                sys.stdout.buffer.write(msgspec.json.encode(StoredEvent.of(event)) + b"\n")
                printed += 1
            sys.stdout.buffer.flush()
            left = None if left is None else left - printed
            if left == 0 or not arguments.follow:
                return 0
            after = max(after, head)
            time.sleep(POLL)
