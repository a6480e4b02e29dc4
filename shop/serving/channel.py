"""A connection that lets waitress's main thread rest while another thread sends an answer.

The thread that made an answer sends it. It gives the interpreter up for that, and needs it back
when the kernel has taken the answer. Meanwhile the main thread may look: it finds output that waits
to be sent and a socket that is ready for it, but the output locked; so it looks again, at once, and
again, and keeps the interpreter from the sender. Measured with eight clients that create products:
on an idle machine 7 such looks for each command, and a tenth of the processor time; on a busy one
20, and a third.

What this relies on in waitress 3.0, and what ``tests/serving/test_channel.py`` would notice:

- ``_flush_some`` is what sends, in whichever thread.
- A thread other than the main one wakes that up after a sending that left something over or failed,
  and at the end of each request.
- A server makes a ``channel_class`` for each connection.
"""

from __future__ import annotations

from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer

from shop.serving.task import Task


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that the main thread leaves alone while another thread sends on it."""

    task_class = Task
    _sending = False

    def _flush_some(self, do_close: bool = True) -> bool:
        self._sending = True
        try:
            sent: bool = super()._flush_some(do_close)
            return sent
        finally:
            self._sending = False

    def writable(self) -> bool:
        """Whether the main thread is to send as soon as the socket is ready for it."""
        return not self._sending and bool(super().writable())


def use_channel() -> None:
    """Have all waitress servers of this process make connections of this class.

    ``waitress-serve`` makes its server itself, after it has imported the application.
    """
    BaseWSGIServer.channel_class = Channel
