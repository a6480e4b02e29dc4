"""The command line: ``python -m shop``."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NoReturn

from shop import __version__
from shop.application import Application, application_of
from shop.bootstrap import bootstrap
from shop.cli import events, models, serve, transfer, workflows
from shop.cli.output import drop
from shop.config import Settings
from shop.process import EXIT_FAILED, clear_failures, fail, log_to_stderr
from shop.urls import redacted, sqlite_path
from shop.web import create_app

EPILOG = """\
Everything is configured by environment variables; `python -m shop config` shows them.

exit codes:
  0    done
  1    failed: the store cannot be used, the address is taken, read models are wrong, what was
       copied is not the same
  2    the configuration or the command line is wrong; nothing was done
  130  interrupted with Ctrl-C (`serve` takes that as a wish to stop: 0)
"""


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run a command line, by default that of the process; return the exit code."""
    try:
        return _run(argv, os.environ if environ is None else environ)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe.
        drop(sys.stdout)
        return 0
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        drop(sys.stdout)
        fail(f"cannot write to standard output: {error.strerror}", EXIT_FAILED)


_UNWRITABLE = {errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _run(argv: Sequence[str] | None, environ: Mapping[str, str]) -> int:
    try:
        arguments = parser().parse_args(argv)
        with clear_failures():
            log_to_stderr(logging.INFO if arguments.run is serve.run else logging.WARNING)
            code: int = arguments.run(arguments, environ)
            return code
    finally:
        sys.stdout.flush()  # not left to the end of Python, which would only complain


class _Parser(argparse.ArgumentParser):
    """Quotes a command line that it does not understand without the passwords in it."""

    def error(self, message: str) -> NoReturn:
        super().error(redacted(message))


def parser() -> argparse.ArgumentParser:
    """The parser of all command lines."""
    root: argparse.ArgumentParser = _Parser(
        prog="python -m shop",
        description="An event-sourced shop: serve it, read and move its log, look after its read"
        " models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    root.add_argument("--version", action="version", version=f"shop {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serve.add_to(commands)
    events.add_to(commands)
    models.add_to(commands)
    transfer.add_to(commands)
    workflows.add_to(commands)
    config = commands.add_parser(
        "config",
        help="show the settings, and whether they and the application are valid",
        description="Show the settings in effect, one SHOP_… variable a line, with passwords"
        " blotted out, the application and the files that they lead to. With bad settings, or an"
        " application that does not fit together: all that is wrong, and exit code 2.",
    )
    config.set_defaults(run=_show_config)
    return root


def _contents(application: Application) -> str:
    """What an application consists of, in one line."""
    counts = {
        "commands": sum(len(module.handlers) for module in application.modules),
        "projections": len(application.projections),
        "workflows": len(application.workflows),
        "reads": len(application.reads),
    }
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{application.title} {application.version}: {told}"


def _show_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = Settings.from_env(environ)
    application = application_of(settings)
    in_memory = Settings(event_store="memory://")
    with closing(bootstrap(in_memory, application=application)) as trial:
        create_app(trial)  # which finds out whether all of it can be served
    print("\n".join(settings.lines()))
    print(f"# {_contents(application)}")
    for url in dict.fromkeys((settings.event_store, settings.model_store)):
        if url.startswith("sqlite:"):
            print(f"# {url} is {sqlite_path(url).absolute()}")
    return 0
