"""Threads that share out work."""

from __future__ import annotations

import threading

import pytest

from shop.eventsourcing.thread_pool import ThreadPool


def test_tasks_run_at_the_same_time_and_all_have_ended_when_it_returns() -> None:
    pool = ThreadPool("test", 3)
    together = threading.Barrier(4, timeout=5)
    done: list[int] = []

    def task() -> None:
        together.wait()
        done.append(1)

    pool.run([task] * 4)
    assert len(done) == 4
    assert pool.close(5)


def test_what_one_raises_comes_out_once_all_have_ended() -> None:
    pool = ThreadPool("test", 2)

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        pool.run([fail, *[lambda: None] * 20])
    pool.run([lambda: None] * 5)  # it works on
    assert pool.close(5)


def test_one_task_needs_no_thread() -> None:
    pool = ThreadPool("test", 2)
    ran: list[str] = []
    pool.run([lambda: ran.append(threading.current_thread().name)])
    pool.run([])
    assert ran == [threading.current_thread().name]
    assert pool.close(0)


def test_a_thread_that_cannot_be_started_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = ThreadPool("test", 1)
    done: list[int] = []
    tasks = [lambda: done.append(1)] * 3
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.run(tasks)
    later = threading.Thread(target=pool.run, args=[tasks], daemon=True)
    later.start()
    later.join(5)
    assert not later.is_alive()
    assert done == [1, 1, 1]
    assert pool.close(5)
