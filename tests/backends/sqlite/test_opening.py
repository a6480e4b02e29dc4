"""SQLite: files that become a store, and files that do not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shop.backends.sqlite import Database
from shop.backends.sqlite.schema import MIGRATIONS
from shop.eventsourcing import StoreFormatError, StoreUnavailableError
from tests.backends.sqlite.conftest import OpenStore, behind_its_back
from tests.notebook import note, stream


def foreign_file(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 500)


def foreign_database(path: Path) -> None:
    with behind_its_back(path) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")
        connection.execute("INSERT INTO diary VALUES ('Monday')")


def foreign_database_in_wal_mode(path: Path) -> None:
    with behind_its_back(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    foreign_database(path)


def marked_database(path: Path) -> None:
    with behind_its_back(path) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.execute("CREATE TABLE diary (day TEXT)")


def newer_database(path: Path) -> None:
    Database(path).close()
    with behind_its_back(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (foreign_file, "is not a SQLite database"),
        (foreign_database, "some other program"),
        (foreign_database_in_wal_mode, "some other program"),
        (marked_database, "some other program"),
        (newer_database, "written by a newer one"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    path: Path, make: Callable[[Path], None], complaint: str
) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreFormatError, match=complaint) as refused:
        Database(path)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_newer_file_is_told_with_both_versions(path: Path) -> None:
    newer_database(path)
    known = len(MIGRATIONS)
    with pytest.raises(StoreFormatError, match=f"version {known + 1}, .* up to {known}"):
        Database(path)


def test_a_damaged_file_is_told_of(path: Path, open_store: OpenStore) -> None:
    with open_store(path) as store:
        store.append(stream(note(), 2000))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 8)
        file.write(b"\xa5" * (size - 4096 * 8))
    with pytest.raises(StoreFormatError, match="damaged"):
        list(open_store(path).read())


def test_an_empty_file_becomes_a_store(path: Path, open_store: OpenStore) -> None:
    path.touch()
    assert open_store(path).head() == 0


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=f"no directory {tmp_path}/missing"):
        Database(tmp_path / "missing" / "events.db")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="it is a directory"):
        Database(tmp_path)


def test_a_file_that_another_is_making_is_waited_for(path: Path) -> None:
    with behind_its_back(path) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        opening = pool.submit(Database, path, timeout=10)
        with pytest.raises(TimeoutError):  # it has not given up
            opening.exception(0.3)
        other.execute("ROLLBACK")
        opening.result(10).close()
