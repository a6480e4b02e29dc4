"""SQLite files under processes that die, on full disks, and of other users."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from shop.backends.sqlite import Database
from tests.backends.conftest import Start
from tests.backends.sqlite.conftest import OpenStore
from tests.notebook import note, noted, stream


def test_threads_may_create_one_file_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def create(path: Path) -> None:
        start.wait()
        Database(path).close()

    with ThreadPoolExecutor(8) as pool:
        for number in range(25):
            list(pool.map(create, [tmp_path / f"{number}.db"] * 8))


@pytest.mark.parametrize("size", [1, 5000], ids=["one event", "many events"])
@pytest.mark.parametrize(("moment", "there"), [("before", False), ("after", True)])
def test_an_append_is_all_there_or_not_at_all_when_its_process_is_killed(
    path: Path, open_store: OpenStore, start: Start, moment: str, there: bool, size: int
) -> None:
    with open_store(path) as store:
        store.append([noted(note(), 1)])
    ref, commit_id = note(), uuid4()
    assert start("die", path, moment, commit_id, ref.id, size).end() == -signal.SIGKILL
    store = open_store(path)
    assert store.head() == 1 + size * there
    assert len(list(store.read())) == store.head()
    assert (store.find_commit(commit_id) is not None) == there
    again = store.append(stream(ref, size), commit_id=commit_id)
    assert again.replayed == there
    assert (again.first, again.last) == (2, 1 + size)
    assert store.head() == 1 + size


def test_a_disk_that_takes_no_more_loses_nothing_and_is_used_again_when_it_does(
    path: Path, open_store: OpenStore, start: Start
) -> None:
    program = start("fill", path)
    complaint, appended, read, next_position = (program.hear() for _ in range(4))
    assert program.end() == 0
    assert str(path) in complaint
    assert "disk" in complaint
    assert int(appended) > 10
    assert read == appended
    assert int(next_position) == int(appended) + 1
    store = open_store(path)
    assert len(list(store.read())) == store.head() == int(next_position)


@pytest.mark.parametrize(
    ("of_file", "of_directory", "complaint"),
    [
        (0o444, 0o777, "right to write"),
        (0o444, 0o555, "may not write|right to write"),
        (0o644, 0o600, "this user may not look into"),
    ],
)
def test_a_file_that_is_not_for_this_user_is_refused_at_once(
    open_store: OpenStore, start: Start, of_file: int, of_directory: int, complaint: str
) -> None:
    # Not in pytest's own directory: that is closed to the other user whom root becomes.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "events.db"
        with open_store(path) as store:
            store.append([noted(note(), 1)])
        before = path.read_bytes()
        path.chmod(of_file)
        directory.chmod(of_directory)
        program = start("read_only", path)
        said = program.hear()
        assert program.end() == 0
        directory.chmod(0o777)
        assert str(path) in said
        assert re.search(complaint, said)
        assert path.read_bytes() == before
        path.chmod(0o644)
        assert open_store(path).head() == 1


def test_a_copy_of_the_file_is_a_whole_store(path: Path, open_store: OpenStore) -> None:
    with open_store(path) as store:
        store.append(stream(note(), 10))
        identity = store.info().identity
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copied = open_store(copy)
    assert copied.head() == 10
    assert copied.info().identity == identity
