"""One core for the process, since Python runs one of its threads at a time.

With several cores each hand-over from thread to thread wakes another core, and on a virtual machine
that takes longer than most of what a thread does before the next. docs/decisions.md has figures.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys

logger = logging.getLogger(__name__)


def keep_to_one_core(name: str = "shop-core") -> socket.socket | None:
    """Bind the calling thread, and those that it starts, to a core that no other process has taken.

    Returns what takes the core: a socket to keep open as long as the process serves. The system
    closes it with the process, however that ends. Other processes see it by its address, an
    abstract one of ``name`` and the core's number, but for those in other network namespaces, such
    as containers: these may take the same core.

    ``None`` where the process goes on as before: its Python has no lock of the interpreter, or the
    system is not Linux; or, which is logged, each core is taken, or the system does not allow it.
    """
    if sys.platform != "linux" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)  # raises at once where the system does not allow it
        # The first is left for last: disks and networks usually interrupt that one.
        for core in sorted(cores, reverse=True):
            taken = _taken(f"\0{name}-{core}")
            if taken is not None:
                os.sched_setaffinity(0, {core})
                logger.info("keeping to core %d (SHOP_CORES=all would use any)", core)
                return taken
    except OSError as error:
        logger.info("using all cores, as the system does not allow to take one: %s", error)
    else:
        logger.info("using all cores, as each is taken by another process that keeps to it")
    return None


def _taken(address: str) -> socket.socket | None:
    """A socket of this address; ``None`` where somebody has it."""
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return taken
