"""``python -m shop serve``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from shop.cli.arguments import Commands, address, positive
from shop.serving import serve


def add_to(commands: Commands) -> None:
    """Add the command to a parser."""
    parser = commands.add_parser(
        "serve",
        help="serve the shop over HTTP",
        description="Serve the shop over HTTP until SIGINT (Ctrl-C), SIGTERM or SIGHUP: then answer"
        " the requests under way and stop, with exit code 0. A second SIGINT or SIGTERM ends it at"
        " once. `make run` does the same by waitress-serve. With SHOP_ROLE=worker it carries out"
        " the commands of other processes instead, and listens nowhere.",
    )
    parser.add_argument(
        "--listen",
        type=address,
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="the address to listen on (default: %(default)s); only clients on this machine are"
        " served",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=8,
        metavar="N",
        help="how many requests, or a worker's commands, are handled at the same time"
        " (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Carry out the command."""
    serve(environ, listen=arguments.listen, threads=arguments.threads)
    return 0
