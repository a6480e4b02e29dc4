from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from shop.eventsourcing.threads import BackgroundThread


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets a thread that ignores the request to stop end at last."""
    event = threading.Event()
    yield event
    event.set()


def until_stopped(stopping: threading.Event) -> None:
    stopping.wait()


def deaf(release: threading.Event) -> Callable[[threading.Event], None]:
    """Runs until it is released, whoever asks it to stop."""

    def run(stopping: threading.Event) -> None:
        release.wait(10)

    return run


def test_the_function_runs_in_a_named_daemon_thread() -> None:
    seen: list[threading.Thread] = []
    thread = BackgroundThread("worker", lambda stopping: seen.append(threading.current_thread()))

    thread.start()

    assert thread.close(5)
    assert [(t.name, t.daemon) for t in seen] == [("worker", True)]


def test_closing_asks_it_to_stop_and_waits_for_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread = BackgroundThread("worker", until_stopped)
    thread.start()

    assert thread.close(5)

    assert not thread.alive
    assert "failed" not in caplog.text


def test_closing_again_does_nothing() -> None:
    thread = BackgroundThread("worker", until_stopped)
    thread.start()
    thread.close(5)

    assert thread.close(5)


def test_closing_what_never_started_does_nothing() -> None:
    assert BackgroundThread("worker", until_stopped).close(5)


def test_a_thread_stopped_before_its_start_ends_at_once() -> None:
    thread = BackgroundThread("worker", until_stopped)
    thread.stop()
    thread.start()

    assert thread.close(5)


def test_stopping_does_not_wait(release: threading.Event) -> None:
    thread = BackgroundThread("worker", deaf(release))
    thread.start()

    thread.stop()

    assert thread.alive
    release.set()
    assert thread.close(5)


def test_stopping_ends_a_wait_on_something_else() -> None:
    bell = threading.Event()
    seen: list[bool] = []

    def run(stopping: threading.Event) -> None:
        bell.wait(10)
        seen.append(stopping.is_set())

    thread = BackgroundThread("worker", run, on_stop=bell.set)
    thread.start()

    assert thread.close(5)
    assert seen == [True]


def test_it_starts_once() -> None:
    thread = BackgroundThread("worker", until_stopped)
    thread.start()

    with pytest.raises(RuntimeError):
        thread.start()

    thread.close(5)


def test_a_failure_ends_it_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def run(stopping: threading.Event) -> None:
        raise LookupError("lost")

    thread = BackgroundThread("worker", run)
    thread.start()

    assert thread.close(5)
    assert "thread worker failed" in caplog.text
    assert "LookupError: lost" in caplog.text


def test_a_straggler_is_logged_and_left(
    release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    thread = BackgroundThread("straggler", deaf(release))
    thread.start()

    assert not thread.close(0.05)

    assert "thread straggler did not end in time" in caplog.text
    assert thread.alive
    release.set()
    assert thread.close(5)


def test_a_thread_may_close_itself(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[bool] = []
    ready = threading.Event()

    def run(stopping: threading.Event) -> None:
        ready.wait(5)
        closed.append(thread.close(5))
        closed.append(stopping.is_set())

    thread = BackgroundThread("worker", run)
    thread.start()
    ready.set()

    assert thread.close(5)
    assert "failed" not in caplog.text
    assert closed[-1]
