"""``python -m shop rebuild`` and ``python -m shop verify``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing

from shop.bootstrap import bootstrap
from shop.cli.arguments import Commands
from shop.cli.looking import settings_of
from shop.cli.progress import progress
from shop.eventsourcing import Difference, Shadow
from shop.process import EXIT_FAILED, EXIT_MISUSED, fail
from shop.runtime import Shop


def add_to(commands: Commands) -> None:
    """Add both commands to a parser."""
    rebuild = commands.add_parser(
        "rebuild",
        help="build read models anew from the log",
        description="Fold the whole log into new read models, beside those in use, and then put"
        " them in their place in one step. The shop may be running meanwhile: it answers from the"
        " old ones until then.",
    )
    which = rebuild.add_mutually_exclusive_group(required=True)
    # An empty list as the default is what lets a positional argument be in such a group.
    which.add_argument("names", nargs="*", default=[], metavar="NAME", help="a projection")
    which.add_argument("--all", action="store_true", help="all projections")
    rebuild.add_argument(
        "--report", action="store_true", help="print which models the rebuild changes, and how"
    )
    rebuild.set_defaults(run=_rebuild)
    verify = commands.add_parser(
        "verify",
        help="compare read models with the log",
        description="Fold the whole log again and compare the outcome with the read models in use,"
        " which stay as they are. Prints what differs; exit code 1 if anything does. The shop may"
        " be running meanwhile.",
    )
    verify.add_argument("names", nargs="*", metavar="NAME", help="a projection (default: all)")
    verify.set_defaults(run=_verify)


def _rebuild(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    with closing(bootstrap(settings_of(environ, "event_store", "model_store"))) as shop:
        for name in _chosen(shop, arguments.names):
            with _shadow(shop, name) as shadow, progress(name) as show:
                differences = shadow.differences(show) if arguments.report else []
                shadow.catch_up(shop.store.head(), show)
                shadow.promote()
                position = shadow.position
            print(f"{name}: built anew, up to position {position}", flush=True)
            _print(differences)
    return 0


def _verify(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    wrong = False
    with closing(bootstrap(settings_of(environ, "event_store", "model_store"))) as shop:
        for name in _chosen(shop, arguments.names):
            with _shadow(shop, name) as shadow, progress(name) as show:
                differences = shadow.differences(show)
                position = shadow.position
            verdict = f"{_verdict(differences)}, up to position {position}"
            print(f"{name}: {verdict}", flush=True)
            _print(differences)
            wrong = wrong or bool(differences)
    return EXIT_FAILED if wrong else 0


def _chosen(shop: Shop, names: Sequence[str]) -> Sequence[str]:
    known = list(shop.progress)
    for name in names:
        if name not in known:
            fail(f"there is no projection {name!r}; known: {', '.join(known)}", EXIT_MISUSED)
    return list(dict.fromkeys(names)) or known


def _shadow(shop: Shop, name: str) -> Shadow:
    if shop.models.checkpoint(name) is None:
        fail(
            f"{name} has no read models yet, as it never ran: start the shop once, with"
            " `python -m shop serve`, and it builds them",
            EXIT_FAILED,
        )
    return Shadow(shop.progress[name].projection, shop.store, shop.models)


def _verdict(differences: Sequence[Difference]) -> str:
    count = len(differences)
    if not count:
        return "agrees with the log"
    return f"differs from the log in {count} {'model' if count == 1 else 'models'}"


def _print(differences: Sequence[Difference]) -> None:
    for difference in differences:
        print(f"  {difference.collection} {difference.id}")
        print(f"    in use:       {difference.live or 'none'}")
        print(f"    from the log: {difference.rebuilt or 'none'}")
