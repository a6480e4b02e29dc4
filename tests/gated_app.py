"""A WSGI app whose requests take as long as a test wants; it sends and stops as the shop does.

With ``ECHO`` in the environment, a second SIGTERM follows right after the first.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shop.serving.channel import use_channel
from shop.serving.draining import stop_on_signals

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """``/gate`` waits until the named pipe ``GATE`` is opened; ``?n`` asks for n kilobytes."""
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/gate":
        logging.getLogger(__name__).warning("at the gate")
        Path(os.environ["GATE"]).open().close()
    answer = body or b"x" * (1024 * int(environ["QUERY_STRING"] or 1))
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return (answer[start : start + 65536] for start in range(0, len(answer), 65536))


def on_stop() -> None:
    logging.getLogger(__name__).warning("stopping")
    if "ECHO" in os.environ:
        os.kill(os.getpid(), signal.SIGTERM)


use_channel()
stop_on_signals(on_stop)
