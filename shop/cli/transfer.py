"""``python -m shop copy``, ``python -m shop export`` and ``python -m shop import``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shop.application import application_of
from shop.cli.arguments import Commands, store_url
from shop.cli.existing import must_exist, settings_of
from shop.cli.progress import progress
from shop.config import Settings
from shop.eventsourcing import EventData, EventIdReusedError, EventStore, Registry, ReplicationError
from shop.eventsourcing.stores.archive import Archive, export
from shop.eventsourcing.stores.replication import HistoryEntry, history, replicate, verify
from shop.process import EXIT_FAILED, EXIT_MISUSED, fail
from shop.stores import check_readable, open_event_store

URL_HELP = "URL of %s, or @FILE for a file that holds it: others see command lines, passwords too"
FITTING = "%s must name a store that is empty or that copies of the same log alone have filled"
_STANDARD = "-"
RESUMED = (
    " However it ends, the same command goes on from there; and what is there already is compared."
)


def add_to(commands: Commands) -> None:
    """Add the three commands to a parser."""
    copy = commands.add_parser(
        "copy",
        help="copy the log into another store",
        description="Copy all commits of one event store into another, of any kind, as they are:"
        " positions, ids, versions, times, metadata and commit ids. Then read the copy and compare"
        " it. The target must be empty or have come from an earlier copy; it is made where it does"
        " not exist. A shop may run on the source meanwhile: what is copied is what was there at"
        " the start, and the same command later adds the rest." + RESUMED + " Read models are not"
        " copied: the shop builds them anew.",
    )
    _add_url(copy, "--from", "source", "the store to copy")
    copy.add_argument(
        "--to",
        dest="target",
        required=True,
        type=store_url,
        metavar="URL",
        help=URL_HELP % "the store to copy into",
    )
    copy.set_defaults(run=_copy)
    export_ = commands.add_parser(
        "export",
        help="write the log as JSON lines",
        description="Write all commits of the event store as JSON, a line a commit with its events,"
        " for `import`. The shop may be running meanwhile.",
    )
    _add_url(export_, "--from", "source", "the store to export")
    export_.add_argument(
        "file",
        nargs="?",
        default=_STANDARD,
        metavar="FILE",
        help="a file to make; %(default)s, the default, is standard output",
    )
    export_.set_defaults(run=_export)
    import_ = commands.add_parser(
        "import",
        help="read the log from JSON lines",
        description="Read what `export` wrote into an event store, and compare the two. The store"
        " must be empty or have come from an earlier part of the same log." + RESUMED,
    )
    _add_url(import_, "--to", "target", "the store to import into")
    import_.add_argument(
        "file",
        nargs="?",
        default=_STANDARD,
        metavar="FILE",
        help="%(default)s, the default, is standard input",
    )
    import_.set_defaults(run=_import)


def _add_url(parser: argparse.ArgumentParser, option: str, dest: str, what: str) -> None:
    parser.add_argument(
        option,
        dest=dest,
        type=store_url,
        metavar="URL",
        help=f"{URL_HELP % what} (default: SHOP_EVENT_STORE)",
    )


def _copy(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = settings_of(environ)
    if arguments.target == (arguments.source or settings.event_store):
        fail("the store to copy and the one to copy into are the same", EXIT_MISUSED)
    registry = application_of(settings).registry
    with _source(arguments, settings, registry) as source:
        head = source.head()
        with open_event_store(arguments.target, registry) as target:
            try:
                _take_in(history(source, head), target, "copy", head)
            except (ReplicationError, EventIdReusedError) as error:
                fail(f"{error}\n{FITTING % '--to'}", EXIT_FAILED)
    return 0


def _export(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = settings_of(environ)
    registry = application_of(settings).registry
    with (
        _source(arguments, settings, registry) as source,
        _file_to_write(arguments.file) as file,
    ):
        head = source.head()
        with progress("export") as show:
            export(source, head, file, lambda position: show(position, head))
    if arguments.file != _STANDARD:
        print(f"exported the log up to position {head} to {arguments.file}")
    return 0


def _import(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = settings_of(environ)
    url: str = arguments.target or settings.event_store
    registry = application_of(settings).registry
    with _file_to_read(arguments.file) as file:
        archive = Archive(file, registry)
        with open_event_store(url, registry) as target:
            try:
                _take_in(archive, target, "import", archive.header.head)
            except (ReplicationError, EventIdReusedError) as error:
                where = "--to" if arguments.target else "SHOP_EVENT_STORE"
                fail(f"line {archive.line} or before: {error}\n{FITTING % where}", EXIT_FAILED)
    return 0


@contextmanager
def _source(
    arguments: argparse.Namespace, settings: Settings, registry: Registry[EventData]
) -> Iterator[EventStore]:
    """The store to read from, which must be there and have only events that are known here."""
    url: str = arguments.source or settings.event_store
    must_exist(url, "--from" if arguments.source else "SHOP_EVENT_STORE")
    with open_event_store(url, registry) as store:
        check_readable(store, registry, url)
        yield store


def _take_in(entries: Iterable[HistoryEntry], target: EventStore, verb: str, head: int) -> None:
    with progress(verb) as show:
        replicated = replicate(entries, target, lambda position: show(position, head))
    with progress("verify") as show:
        verify(replicated, target, lambda position: show(position, head))
    # Only now: a reader that closes the pipe must not prevent the comparison.
    before = replicated.commits - replicated.new_commits
    print(
        f"{verb}: {replicated.commits} commits with {replicated.events} events;"
        f" {before} of the commits were there already"
    )
    print("verify: the target holds the same, and nothing else")


@contextmanager
def _file_to_write(name: str) -> Iterator[BinaryIO]:
    """A new file, on the disk at the end and deleted if something fails; or standard output."""
    try:
        if name == _STANDARD:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        with Path(name).open("xb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                Path(name).unlink()
                raise
    except BrokenPipeError:
        raise
    except OSError as error:
        what = "to standard output" if name == _STANDARD else name
        fail(f"cannot write {what}: {error.strerror}", EXIT_FAILED)


@contextmanager
def _file_to_read(name: str) -> Iterator[BinaryIO]:
    """The file, or standard input."""
    if name == _STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - errors of its use are none of its opening
    except OSError as error:
        fail(f"cannot read {name}: {error.strerror}", EXIT_FAILED)
    with file:
        yield file
