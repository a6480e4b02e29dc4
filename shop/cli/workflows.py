"""``python -m shop workflows``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from uuid import UUID

import msgspec

from shop.bootstrap import bootstrap
from shop.cli.arguments import Commands
from shop.cli.existing import settings_of
from shop.cli.output import tell
from shop.eventsourcing import AggregateNotFoundError, CommandRejected, WorkflowStatus
from shop.process import EXIT_FAILED, EXIT_MISUSED, fail
from shop.runtime import Shop


def add_to(commands: Commands) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "workflows",
        help="print workflows, as JSON lines; retry those that are parked",
        description="Print the workflows, oldest first, one JSON object a line, as GET /workflows"
        " shows them. The shop may be running meanwhile.",
    )
    parser.add_argument(
        "--status",
        choices=[status.value for status in WorkflowStatus],
        help="only with this status",
    )
    parser.set_defaults(run=_list)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    retry = actions.add_parser(
        "retry",
        help="have parked workflows try again",
        description="Have parked workflows try again what they failed on. The running shop does it"
        " within a second; otherwise the next one that is started.",
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", nargs="*", type=UUID, default=[], metavar="UUID")
    which.add_argument("--all", action="store_true", help="all that are parked")
    retry.set_defaults(run=_retry)


@contextmanager
def _opened(environ: Mapping[str, str]) -> Iterator[Shop]:
    with closing(bootstrap(settings_of(environ, "event_store", "model_store"))) as shop:
        if not shop.workflows:
            fail("the application has no workflows", EXIT_MISUSED)
        shop.check_open()
        yield shop


def _list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    with _opened(environ) as shop:
        status = arguments.status and WorkflowStatus(arguments.status)
        for entry in shop.list_workflows(status):
            sys.stdout.buffer.write(msgspec.json.encode(entry) + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _retry(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    code = 0
    with _opened(environ) as shop:
        parked = [(e.workflow, e.id) for e in shop.list_workflows(WorkflowStatus.PARKED)]
        if arguments.all and not parked:
            tell("no workflow is parked")
        for id in arguments.ids or [id for _, id in parked]:
            # The list may lag: an id that it lacks is tried with every workflow.
            names = [name for name, known in parked if known == id] or list(shop.workflows)
            for name in names:
                try:
                    shop.workflows[name].retry(id)
                    tell(f"{name}/{id}: is tried again")
                except CommandRejected as refusal:
                    tell(refusal.detail, sys.stderr)
                    code = EXIT_FAILED
                except AggregateNotFoundError as missing:
                    tell(str(missing), sys.stderr)
                    code = EXIT_FAILED
    return code
