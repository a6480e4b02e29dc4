"""A process that serves keeps to a core of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.real.process import free_port
from tests.servers import ServerProcess, by_waitress, environment

CORES = sorted(os.sched_getaffinity(0))[:2]
"""Those that the processes here may use."""
TAKING = """
import os, sys
from shop.serving.core import keep_to_one_core
os.sched_setaffinity(0, map(int, sys.argv[2:]))
taken = keep_to_one_core(sys.argv[1])
print(*sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""

Taking = Callable[..., tuple[subprocess.Popen[str], list[int]]]


@pytest.fixture
def take() -> Iterator[Taking]:
    """Start a process that takes one of these cores; gives it, and the cores that it then has."""
    name = f"test-{uuid4()}"
    with ExitStack() as processes:

        def start(*cores: int) -> tuple[subprocess.Popen[str], list[int]]:
            process = processes.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", TAKING, name, *map(str, cores or CORES)],
                    env=environment(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert process.stdout is not None
            return process, [int(core) for core in process.stdout.readline().split()]

        yield start


def test_processes_take_a_core_each_and_one_too_many_takes_none(take: Taking) -> None:
    taken = [take()[1] for _ in CORES]
    assert taken == [[core] for core in reversed(CORES)]
    assert take()[1] == CORES


def test_the_core_of_a_killed_process_is_free_again(take: Taking) -> None:
    process, taken = take()
    process.kill()
    process.wait()
    assert take()[1] == taken == CORES[-1:]


def test_the_only_core_that_a_process_may_use_is_not_given_to_another(take: Taking) -> None:
    assert take(CORES[-1])[1] == CORES[-1:]
    assert take()[1] == CORES[:1]


def threads_cores(pid: int) -> set[tuple[int, ...]]:
    """The cores of each thread of a process."""
    cores = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended
            cores.add(tuple(sorted(os.sched_getaffinity(int(thread.name)))))
    return cores


@pytest.mark.parametrize("cores", ["one", "all"])
def test_a_shop_keeps_to_one_core_with_all_its_threads_unless_told_otherwise(
    cores: str, tmp_path: Path
) -> None:
    port = free_port()
    command = by_waitress(f"127.0.0.1:{port}")
    with ServerProcess(command, port, tmp_path, SHOP_CORES=cores) as server:
        server.await_ready()
        [mask] = threads_cores(server.process.pid)
        kept = "keeping to core" in server.log
        # Other shops of this machine may have taken all cores.
        told = kept or "each is taken" in server.log
        assert told == (cores == "one")
        assert len(mask) == 1 if kept else set(mask) == os.sched_getaffinity(0)
