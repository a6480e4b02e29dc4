"""``python -m shop rebuild`` and ``python -m shop verify``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from shop.bootstrap import bootstrap
from shop.cli.arguments import Commands, positive
from shop.cli.existing import settings_of
from shop.cli.output import tell
from shop.cli.progress import progress
from shop.eventsourcing import CheckpointMovedError, Difference, ProjectionError, Query, Shadow
from shop.eventsourcing.suggestions import near_or_known
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
        " which stay as they are. Prints what differs, and how many events the models are behind;"
        " exit code 1 if anything differs. The shop may be running meanwhile.",
    )
    verify.add_argument("names", nargs="*", metavar="NAME", help="a projection (default: all)")
    verify.add_argument(
        "--differences",
        type=positive,
        default=10,
        metavar="N",
        help="how many differences of a projection to print, at most (default: %(default)s)",
    )
    verify.set_defaults(run=_verify)


def _rebuild(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    def rebuild(shop: Shop, name: str) -> bool:
        with _shadow(shop, name) as shadow, progress(name) as show:
            differences = shadow.differences(show) if arguments.report else []
            shadow.catch_up(shop.store.head(), show)
            shadow.promote()
            position = shadow.position
        tell(f"{name}: built anew, up to position {position}")
        _tell_differences(differences)
        return True

    return _each(arguments.names, environ, rebuild)


def _verify(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    def verify(shop: Shop, name: str) -> bool:
        head = shop.store.head()
        with _shadow(shop, name) as shadow, progress(name) as show:
            differences = shadow.differences(show)
            position = shadow.position
        tell(f"{name}: {_verdict(differences)}, {_extent(shop, name, position, head)}")
        if differences and _is_outdated(shop, name):
            tell("  they are of another version of its code: the next start builds them anew")
        _tell_differences(differences[: arguments.differences])
        left = len(differences) - arguments.differences
        if left > 0:
            tell(f"  and {left} more (--differences {len(differences)} prints all)")
        return not differences

    return _each(arguments.names, environ, verify)


def _each(
    names: Sequence[str], environ: Mapping[str, str], handle: Callable[[Shop, str], bool]
) -> int:
    """Call ``handle`` with each projection that is named, or with all; return the exit code.

    ``handle`` returns whether the read models are right. An error about one projection keeps no
    other from its turn, and is told at the end.
    """
    right = True
    errors = []
    with closing(bootstrap(settings_of(environ, "event_store", "model_store"))) as shop:
        for name in _chosen(shop, names):
            try:
                right = handle(shop, name) and right
            except CheckpointMovedError:
                errors.append(f"{name}: another rebuild or verify of it began meanwhile")
            except ProjectionError as error:
                errors.append(str(error))
    if errors:
        fail("\n".join(errors), EXIT_FAILED)
    return 0 if right else EXIT_FAILED


def _chosen(shop: Shop, names: Sequence[str]) -> Sequence[str]:
    known = list(shop.progress)
    for name in names:
        if name not in known:
            fail(f"there is no projection {name!r}; {near_or_known(name, known)}", EXIT_MISUSED)
    return list(dict.fromkeys(names)) or known


def _shadow(shop: Shop, name: str) -> Shadow:
    if shop.models.checkpoint(name) is None:
        raise ProjectionError(
            f"{name} has no read models yet, as it never ran: start the shop once, with"
            " `python -m shop serve`, and it builds them"
        )
    return Shadow(shop.progress[name].projection, shop.store, shop.models)


def _extent(shop: Shop, name: str, position: int, head: int) -> str:
    """How far models go whose checkpoint is at a position.

    That is the log's head where no event after the checkpoint concerns them.
    """
    names = shop.progress[name].projection.event_names
    count = sum(1 for _ in shop.store.read(Query(names=names, after=position, to=head)))
    if not count:
        return f"up to position {max(position, head)}"
    return f"up to position {position}, {count} {'event' if count == 1 else 'events'} behind"


def _is_outdated(shop: Shop, name: str) -> bool:
    """Whether the models in use were made by other handlers, or for other fields."""
    checkpoint = shop.models.checkpoint(name)
    return checkpoint is not None and checkpoint.shape != shop.progress[name].projection.shape


def _verdict(differences: Sequence[Difference]) -> str:
    count = len(differences)
    if not count:
        return "agrees with the log"
    return f"differs from the log in {count} {'model' if count == 1 else 'models'}"


def _tell_differences(differences: Sequence[Difference]) -> None:
    for difference in differences:
        tell(f"  {difference.collection} {difference.id}")
        tell(f"    in use:       {difference.live or 'none'}")
        tell(f"    from the log: {difference.rebuilt or 'none'}")
