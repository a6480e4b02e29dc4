"""A clean stop for waitress: requests that arrived before the signal are answered.

Left to itself, waitress dies of SIGTERM on the spot, and on ``SystemExit`` drops the requests that
wait for a thread. Here a signal only puts one more object into waitress's own loop. The loop goes
on serving, and that object ends it when no client is waiting for an answer any more.

What this relies on in waitress 3.0, and what ``tests/serving`` would notice:

- The main thread runs ``wasyncore.loop``. Its local ``map`` holds the listening servers and the
  connections, and gains and loses members at any time.
- Before each wait the loop asks every member whether it is ``readable()``, holding no lock. What
  that raises ends the loop; ``SystemExit`` does so in an orderly way (``server.run``).
- A function given to a ``trigger`` is called by the loop after its wait.
- A connection with something left to do has ``requests`` (complete ones), a ``request`` (a partial
  one) or ``total_outbufs_len`` (unsent bytes).
- A request whose header says ``Connection: close`` is the last one of its connection.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer

from shop.serving.task import Task

logger = logging.getLogger(__name__)

MIN_DRAIN_SECONDS = 0.2
"""How long connections without a request may still send one. For as long, another SIGTERM counts
as the same: `make` forwards signals, so Ctrl-C on `make run` arrives twice."""
MAX_DRAIN_SECONDS = 5.0
"""After this time, requests that are still unanswered are given up."""
LOOK_INTERVAL = 0.01
"""Seconds between two looks at what is left to do."""


def stop_on_signals(on_stop: Callable[[], None]) -> None:
    """Have the first SIGINT, SIGTERM or SIGHUP stop this process cleanly, and a second at once.

    While a waitress server runs, the signal calls ``on_stop`` and has connections refused; the
    requests under way are answered before the server's ``run`` returns, within about
    ``MAX_DRAIN_SECONDS``. Without a server the signal raises ``SystemExit(0)``.

    A SIGHUP never counts as the second signal: a terminal that is closed may send several. Signals
    that the process inherited as ignored stop it as well, except for SIGHUP, which ``nohup`` has it
    ignore. Call this in the main thread.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        sockets = _sockets_of_loop(frame)
        servers = [s for s in sockets.values() if isinstance(s, BaseWSGIServer)]
        repeated = signal.SIG_IGN if servers and signum == signal.SIGTERM else signal.SIG_DFL
        signal.signal(signal.SIGTERM, repeated)  # ignored for the moment: see MIN_DRAIN_SECONDS
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if not servers:
            raise SystemExit(0)
        # The signal may have come in the middle of anything, so the rest is left to the loop.
        sockets[_Drain.KEY] = _Drain(sockets, servers, on_stop, signal.Signals(signum).name)
        signal.signal(signal.SIGALRM, lambda *_: servers[0].pull_trigger())
        signal.setitimer(signal.ITIMER_REAL, LOOK_INTERVAL, LOOK_INTERVAL)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)


def _sockets_of_loop(frame: FrameType | None) -> dict[int, Any]:
    """The socket map of the waitress loop that a frame was called by, empty without a loop."""
    while frame is not None:
        if frame.f_code is wasyncore.loop.__code__:
            sockets: dict[int, Any] = frame.f_locals["map"]
            return sockets
        frame = frame.f_back
    return {}


class _Drain:
    """A member of waitress's loop, without a socket, that brings the loop to its end."""

    KEY = -1  # in the place of a file descriptor

    def __init__(
        self,
        sockets: dict[int, Any],
        servers: list[BaseWSGIServer],
        on_stop: Callable[[], None],
        reason: str,
    ) -> None:
        self._sockets = sockets
        self._servers = servers
        self._on_stop = on_stop
        self._reason = reason
        self._began: float | None = None

    def readable(self) -> bool:
        """Called by the loop before each wait."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
            logger.info("%s: answering the requests under way, then stopping", self._reason)
            self._on_stop()
            for server in self._servers:
                _hold_off_connections(server.socket)
            # Not here, where the loop is about to wait for these sockets, but right after.
            self._servers[0].trigger.pull_trigger(self._stop_listening)
        elif now - self._began >= MIN_DRAIN_SECONDS:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            unanswered = self._unanswered()
            if not unanswered or now - self._began >= MAX_DRAIN_SECONDS:
                self._end_loop(unanswered)
        for channel in self._channels():
            _make_last(channel)
        return False

    def writable(self) -> bool:
        """Called by the loop before each wait."""
        return False

    def close(self) -> None:
        """Called by waitress at the end."""

    def _channels(self) -> Iterator[HTTPChannel]:
        return (c for c in list(self._sockets.values()) if isinstance(c, HTTPChannel))

    def _stop_listening(self) -> None:
        """Accept the connections that wait to be accepted, then close the listening sockets."""
        for server in self._servers:
            # select() cannot take file descriptors from 1024 on.
            max_sockets = sys.maxsize if server.adj.asyncore_use_poll else 1000
            accepted = -1
            while accepted < len(self._sockets) < max_sockets:
                accepted = len(self._sockets)
                server.handle_accept()
            wasyncore.dispatcher.close(server)  # server.close() would close the trigger as well

    def _unanswered(self) -> int:
        """How many connections and threads have something left to do."""
        dispatcher = self._servers[0].task_dispatcher
        connections = sum(
            bool(channel.requests or channel.request is not None or channel.total_outbufs_len)
            for channel in self._channels()
        )
        # A thread may be busy for a client that has gone.
        tasks: int = len(dispatcher.queue) + dispatcher.active_count
        return max(connections, tasks)

    def _end_loop(self, unanswered: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if unanswered:
            logger.warning(
                "stopping with %d requests unanswered after %g s", unanswered, MAX_DRAIN_SECONDS
            )
            # waitress would wait another five seconds for these threads.
            self._servers[0].task_dispatcher.threads.clear()
        raise SystemExit(0)


def _make_last(channel: HTTPChannel) -> None:
    """Have a connection closed after the request under way, or else after the next one."""
    for request in list(channel.requests):
        request.headers["CONNECTION"] = "close"
    channel.task_class = _last_task


def _last_task(channel: HTTPChannel, request: HTTPRequestParser) -> Task:
    request.headers["CONNECTION"] = "close"
    return Task(channel, request)


def _hold_off_connections(listening: socket.socket) -> None:
    """Have the kernel drop what would open a connection, so that the queue of opened ones ends.

    Closing a listening socket resets connections that were opened but not accepted yet, and between
    the last accept and the close there could always be one more. Held off by this filter, a client
    tries again a moment later, and is then refused. On systems other than Linux this does nothing.
    """
    if sys.platform != "linux":
        return
    attach_filter = 26  # SO_ATTACH_FILTER, which the socket module does not know
    load_flags, if_syn, drop, keep = (
        (0x30, 0, 0, 13),
        (0x45, 0, 1, 0x02),
        (6, 0, 0, 0),
        (6, 0, 0, 0xFFFF),
    )
    program = b"".join(struct.pack("HBBI", *step) for step in (load_flags, if_syn, drop, keep))
    buffer = ctypes.create_string_buffer(program)
    with suppress(OSError):
        listening.setsockopt(
            socket.SOL_SOCKET, attach_filter, struct.pack("HP", 4, ctypes.addressof(buffer))
        )
