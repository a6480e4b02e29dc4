"""Serving HTTP: a process from its environment to its end."""

from __future__ import annotations

import atexit
import errno
import logging
import resource
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import waitress
from flask import Flask

from shop.bootstrap import bootstrap
from shop.config import ConfigurationError, Settings
from shop.process import EXIT_MISUSED, clear_failures, fail, log_to_stderr
from shop.runtime import Shop
from shop.serving.channel import use_channel
from shop.serving.core import keep_to_one_core
from shop.serving.draining import stop_on_signals
from shop.web import create_app

logger = logging.getLogger(__name__)

ADJUSTMENTS: Mapping[str, Any] = {
    # The Makefile and docs/shop.service tell waitress-serve the same.
    "ident": None,  # no Server header
    "asyncore_use_poll": True,  # select() cannot take file descriptors from 1024 on
    "connection_limit": 900,  # below 1024 open files, of which many systems allow no more
    "channel_timeout": 60,  # seconds for which an idle connection stays open
    "max_request_body_size": 1 << 30,  # for bulk imports; the shop has lower limits for the rest
}
"""What waitress is told besides its address and the number of its threads."""


def start_app(environ: Mapping[str, str], *, threads: int = 8) -> Flask:
    """Start the shop that the environment describes, and make the web application for it.

    ``threads`` is how many the server has; a quarter of them may be taken by long waits for read
    models.

    The shop belongs to the process: it sets up the log, takes the signals and the uncaught errors,
    and is closed when the process ends. Bad configuration and stores that cannot be used end the
    process, with a message on stderr and the exit codes of :mod:`shop.process`.
    """
    with clear_failures():
        settings = Settings.from_env(environ)
        if settings.role == "worker":
            raise ConfigurationError(
                ["SHOP_ROLE: a worker serves no HTTP: start it with `python -m shop serve`"]
            )
    return _start_app(settings, threads)


def serve(environ: Mapping[str, str], *, listen: str, threads: int) -> None:
    """Serve the shop that the environment describes until a signal says stop.

    ``threads`` is how many requests are handled at the same time. A worker listens nowhere: its
    threads carry out the commands of other processes.
    """
    with clear_failures():
        settings = Settings.from_env(environ)
    if settings.role == "worker":
        _open(settings, threads).start()
        logger.info("carrying out commands with %d threads, and listening nowhere", threads)
        threading.Event().wait()  # a signal ends the process
    else:
        app = _start_app(settings, threads)
        server = waitress.create_server(app, listen=listen, threads=threads, **ADJUSTMENTS)
        server.print_listen("Serving on http://{}:{}")
        server.run()


def _start_app(settings: Settings, threads: int) -> Flask:
    use_channel()
    shop = _open(settings, threads)
    with clear_failures():
        app = create_app(shop, long_waits=max(1, threads // 4))
    shop.start()
    return app


def _open(settings: Settings, threads: int) -> Shop:
    log_to_stderr(logging.INFO)
    sys.excepthook = _tell_address_errors
    _allow_open_files()
    at_stop = ExitStack()
    if threading.current_thread() is threading.main_thread():
        stop_on_signals(at_stop.close)  # before all that takes time: signals may come already
    logger.info("starting in %s with %s", Path.cwd(), ", ".join(settings.lines()))
    if settings.cores == "one" and (taken := keep_to_one_core()):
        atexit.register(taken.close)
    with clear_failures():
        shop = bootstrap(settings, threads=threads)
    at_stop.callback(shop.begin_shutdown)
    atexit.register(_close, shop)
    return shop


def _allow_open_files() -> None:
    """Raise the limit of open files to the highest that is allowed: the usual one is lower."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):  # the whole system may allow fewer
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _close(shop: Shop) -> None:
    shop.close()
    logger.info("stopped")


def _tell_address_errors(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Say in one line why waitress cannot listen; leave other errors as they are."""
    refusals = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}
    if isinstance(error, OSError) and error.errno in refusals and error.filename is None:
        print(f"cannot listen on {_address(traceback)}: {error.strerror}", file=sys.stderr)  # noqa: T201
    elif isinstance(error, ValueError) and str(error) == "Invalid host/port specified.":
        # Raised from here, SystemExit has Python end with its code instead of 1.
        fail(
            f"cannot listen on {_innermost('i', traceback) or 'this address'}: it is no HOST:PORT"
            " of a host that there is, such as 127.0.0.1:8080",
            EXIT_MISUSED,
        )
    else:
        sys.__excepthook__(kind, error, traceback)


def _address(traceback: TracebackType | None) -> str:
    """The address that waitress was binding."""
    bound = _innermost("addr", traceback)
    if not isinstance(bound, tuple):
        return "this address"
    host, port, *_ = bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _innermost(name: str, traceback: TracebackType | None) -> object:
    """A local variable of the innermost call: it has what waitress's errors do not say."""
    value = None
    while traceback is not None:
        value = traceback.tb_frame.f_locals.get(name)
        traceback = traceback.tb_next
    return value
