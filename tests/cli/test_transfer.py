"""``copy``, ``export`` and ``import``, with real files and processes."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

import pytest

from shop.bootstrap import bootstrap, event_registry, open_event_store
from shop.cli import main
from shop.config import Settings
from shop.domain.product import CreateProduct, ProductCreated, ProductRenamed
from shop.eventsourcing import AggregateRef, Command, Commit, Event, Metadata
from shop.eventsourcing.stores.replication import BATCH, HistoryEntry, history
from tests.cli.conftest import Captured
from tests.conftest import Eventually
from tests.servers import PATIENCE, ROOT, environment

COMMITS = 3 * BATCH


@pytest.fixture
def source(tmp_path: Path) -> str:
    """URL of a store with commits of one, two and no events; the last have none."""
    url = f"sqlite:///{tmp_path / 'source.db'}"
    with open_event_store(url, event_registry()) as store:
        entries = list(made_up(COMMITS))
        for start in range(0, len(entries), BATCH):
            store.replicate(entries[start : start + BATCH])
    return url


@pytest.fixture
def target(tmp_path: Path) -> str:
    """URL of a store that is not there yet."""
    return f"sqlite:///{tmp_path / 'target.db'}"


def made_up(commits: int) -> Iterator[HistoryEntry]:
    last = 0
    for number in range(commits):
        ref = AggregateRef("shop.product", uuid4())
        why = Metadata(command_id=uuid4(), actor="Ada")
        created = Event.new(ref, version=1, data=ProductCreated("Mouse", 5), metadata=why)
        renamed = Event.new(ref, version=2, data=ProductRenamed("Ratón"), metadata=why)
        size = 0 if number >= commits - 2 else number % 3
        events = [e.at(last + i) for i, e in enumerate([created, renamed][:size], 1)]
        yield Commit(uuid4(), last + 1, last + size, b"%d" % number, replayed=True), events
        last += size


def everything(url: str) -> list[HistoryEntry]:
    with open_event_store(url, event_registry()) as store:
        return list(history(store, store.head()))


def append(url: str, id: UUID | None = None) -> None:
    """What a shop might do."""
    ref = AggregateRef("shop.product", id or uuid4())
    with open_event_store(url, event_registry()) as store:
        store.append([Event.new(ref, version=1, data=ProductCreated("Lamp", 1))])


def tamper(url: str, statement: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("DROP TRIGGER IF EXISTS events_stay")
        connection.execute(statement)
        connection.commit()


def run(*line: str) -> int:
    return main(line, {})


class TestCopy:
    def test_the_copy_is_the_same_and_may_be_repeated(
        self, source: str, target: str, capsys: Captured
    ) -> None:
        assert run("copy", "--from", source, "--to", target) == 0
        assert everything(target) == everything(source)
        told = capsys.readouterr()
        assert f"copy: {COMMITS} commits with " in told.out
        assert "; 0 of the commits were there already" in told.out
        assert "verify: the target holds the same, and nothing else" in told.out
        assert "verify: 2997 of 2997 events" in told.err
        append(source)
        assert run("copy", "--from", source, "--to", target) == 0
        assert f"; {COMMITS} of the commits were there already" in capsys.readouterr().out
        assert everything(target) == everything(source)

    def test_the_store_to_copy_is_by_default_that_of_the_settings(
        self, source: str, target: str
    ) -> None:
        assert main(["copy", "--to", target], {"SHOP_EVENT_STORE": source}) == 0
        assert everything(target) == everything(source)

    def test_a_url_may_be_in_a_file(self, source: str, target: str, tmp_path: Path) -> None:
        (tmp_path / "from").write_text(source + "\n")
        (tmp_path / "to").write_text(target + "\n")
        assert run("copy", "--from", f"@{tmp_path}/from", "--to", f"@{tmp_path}/to") == 0
        assert everything(target) == everything(source)

    def test_a_target_with_other_events_is_left_as_it_is(
        self, source: str, target: str, capsys: Captured
    ) -> None:
        append(target)
        before = everything(target)
        with pytest.raises(SystemExit, match="1"):
            run("copy", "--from", source, "--to", target)
        (ours, _), (theirs, _) = everything(source)[0], before[0]
        assert capsys.readouterr().err.splitlines()[-2:] == [
            f"commit {ours.id}, from position 1 on, does not fit: in its place the target has"
            f" commit {theirs.id}",
            "--to must name a store that is empty or that copies of the same log alone have filled",
        ]
        assert everything(target) == before

    def test_a_target_that_went_on_by_itself_is_left_as_it_is(
        self, source: str, target: str, capsys: Captured
    ) -> None:
        run("copy", "--from", source, "--to", target)
        append(target)
        last, _ = everything(target)[-1]
        with pytest.raises(SystemExit, match="1"):
            run("copy", "--from", source, "--to", target)
        assert (
            f"commit {last.id}, from position 2998 on, does not fit: it is in the target and not in"
            " the source" in capsys.readouterr().err
        )
        assert everything(target)[-1][0] == last

    def test_a_copy_that_was_changed_is_noticed(
        self, source: str, target: str, capsys: Captured
    ) -> None:
        run("copy", "--from", source, "--to", target)
        tamper(target, "UPDATE events SET time = time + 1 WHERE position = 1234")
        commit = next(c for c, _ in everything(source) if c.first <= 1234 <= c.last)
        with pytest.raises(SystemExit, match="1"):
            run("copy", "--from", source, "--to", target)
        assert (
            f"commit {commit.id}, from position {commit.first} on, does not fit: the target has it"
            " with other content" in capsys.readouterr().err
        )

    def test_events_that_this_program_does_not_know_are_named_and_nothing_is_made(
        self, source: str, target: str, capsys: Captured, tmp_path: Path
    ) -> None:
        tamper(source, "INSERT INTO event_kinds VALUES ('old.shop', 'old.shop.closed', 1)")
        for line in (("copy", "--to", target), ("export", f"{tmp_path}/a.jsonl")):
            with pytest.raises(SystemExit, match="1"):
                main(line, {"SHOP_EVENT_STORE": source})
            assert "old.shop.closed version 1: no class" in capsys.readouterr().err
        assert not (tmp_path / "target.db").exists()
        assert not (tmp_path / "a.jsonl").exists()

    def test_a_shop_on_the_copy_goes_on_where_the_other_was(
        self, tmp_path: Path, target: str
    ) -> None:
        old = Settings(
            event_store=f"sqlite:///{tmp_path}/old.db", model_store=f"sqlite:///{tmp_path}/old.db"
        )
        command = Command.new(CreateProduct(name="Mouse", price=999, stock=5))
        with bootstrap(old) as shop:
            first = shop.commands.dispatch(command)
        assert run("copy", "--from", old.event_store, "--to", target) == 0
        with bootstrap(Settings(event_store=target, model_store=target)) as shop:
            assert shop.commands.dispatch(command).position == first.position
            created = shop.commands.dispatch(
                Command.new(CreateProduct(name="Lamp", price=999, stock=5))
            )
            assert created.position == first.position + 2
            assert shop.wait_for(created.position, PATIENCE)


class TestKilled:
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("way", ["copy", "import"])
    def test_it_goes_on_after_a_kill_at_any_commit(
        self, source: str, target: str, tmp_path: Path, way: str, moment: str
    ) -> None:
        line = ["copy", "--from", source, "--to", target]
        if way == "import":
            line = ["import", "--to", target, f"{tmp_path}/a.jsonl"]
            assert run("export", "--from", source, f"{tmp_path}/a.jsonl") == 0
        original = everything(source)
        path = target.removeprefix("sqlite:///")
        lengths = []
        for nth in (1, 2, 3, 3, 100):
            command = [
                sys.executable,
                "-m",
                "tests.cli.dying_transfer",
                moment,
                str(nth),
                path,
                *line,
            ]
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment(),
                timeout=PATIENCE,
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            assert done.returncode == (0 if nth == 100 else -signal.SIGKILL)
            copied = everything(target)
            assert copied == original[: len(copied)]
            lengths.append(len(copied))
        assert lengths == sorted(lengths)
        assert len(set(lengths)) >= 3
        assert lengths[-1] == len(original)

    def test_it_goes_on_after_a_kill_between_commits(self, source: str, target: str) -> None:
        command = [sys.executable, "-m", "shop", "copy", "--from", source, "--to", target]
        with subprocess.Popen(
            command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            process.stderr.readline()  # it tells its progress after the first batch
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert 0 < len(everything(target)) < COMMITS
        assert run("copy", "--from", source, "--to", target) == 0
        assert everything(target) == everything(source)


class TestExportAndImport:
    def test_through_a_file(
        self, source: str, target: str, tmp_path: Path, capsys: Captured
    ) -> None:
        file = str(tmp_path / "a.jsonl")
        assert run("export", "--from", source, file) == 0
        assert f"exported the log up to position 2997 to {file}" in capsys.readouterr().out
        assert run("import", "--to", target, file) == 0
        assert run("import", "--to", target, file) == 0
        assert f"; {COMMITS} of the commits were there already" in capsys.readouterr().out
        assert everything(target) == everything(source)

    @pytest.mark.parametrize("file", [[], ["-"]])
    def test_through_a_pipe(
        self, source: str, target: str, tmp_path: Path, file: list[str]
    ) -> None:
        program = [sys.executable, "-m", "shop"]
        with subprocess.Popen(
            [*program, "export", *file],
            cwd=tmp_path,
            env=environment(SHOP_EVENT_STORE=source),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as exporting:
            importing = subprocess.run(
                [*program, "import", *file],
                env=environment(SHOP_EVENT_STORE=target),
                stdin=exporting.stdout,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        assert (exporting.returncode, importing.returncode) == (0, 0)
        assert b"verify: the target holds the same" in importing.stdout
        assert everything(target) == everything(source)
        assert not (tmp_path / "-").exists()

    def test_an_import_whose_reader_has_had_enough_is_done_and_verified_all_the_same(
        self, source: str, target: str, tmp_path: Path, unread: BinaryIO
    ) -> None:
        run("export", "--from", source, f"{tmp_path}/a.jsonl")
        done = subprocess.run(
            [sys.executable, "-m", "shop", "import", "--to", target, f"{tmp_path}/a.jsonl"],
            env=environment(), stdout=unread, stderr=subprocess.PIPE, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0
        assert done.stderr.splitlines()[-1] == b"verify: 2997 of 2997 events"
        assert everything(target) == everything(source)

    def test_an_export_whose_progress_nobody_reads_is_whole(
        self, source: str, target: str, tmp_path: Path, unread: BinaryIO
    ) -> None:
        file = f"{tmp_path}/a.jsonl"
        done = subprocess.run(
            [sys.executable, "-m", "shop", "export", "--from", source, file],
            env=environment(), stderr=unread, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0
        assert run("import", "--to", target, file) == 0
        assert everything(target) == everything(source)

    def test_a_file_that_is_there_is_not_written_over(
        self, source: str, tmp_path: Path, capsys: Captured
    ) -> None:
        file = tmp_path / "a.jsonl"
        file.write_text("precious")
        with pytest.raises(SystemExit, match="1"):
            run("export", "--from", source, str(file))
        assert f"cannot write {file}: File exists" in capsys.readouterr().err
        assert file.read_text() == "precious"

    def test_an_export_that_fails_leaves_no_file(self, source: str, tmp_path: Path) -> None:
        tamper(source, "UPDATE events SET data = '{}' WHERE position = 2000")
        with pytest.raises(SystemExit, match="1"):
            run("export", "--from", source, str(tmp_path / "a.jsonl"))
        assert not (tmp_path / "a.jsonl").exists()

    def test_a_full_disk_is_told(self, source: str) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "shop", "export", "--from", source],
                env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE,
                check=False,
            )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(b"cannot write to standard output: No space")

    @pytest.mark.parametrize("length", [0, 10, 100_000, -1])
    def test_a_file_that_was_cut_off_fails_and_the_whole_one_goes_on(
        self, source: str, target: str, tmp_path: Path, capsys: Captured, length: int
    ) -> None:
        whole, part = tmp_path / "whole", tmp_path / "part"
        run("export", "--from", source, str(whole))
        part.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(SystemExit, match="1"):
            run("import", "--to", target, str(part))
        assert "the file was cut off here" in capsys.readouterr().err
        assert run("import", "--to", target, str(whole)) == 0
        assert everything(target) == everything(source)

    def test_a_line_that_the_store_refuses_is_looked_for(
        self, source: str, target: str, tmp_path: Path, capsys: Captured
    ) -> None:
        file = tmp_path / "a.jsonl"
        run("export", "--from", source, str(file))
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        bad = next(line for line in lines if line.get("last") == 7)
        bad["events"][-1]["version"] += 1
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(SystemExit, match="1"):
            run("import", "--to", target, str(file))
        told = capsys.readouterr().err
        assert "or before: " in told
        assert "is at version" in told
        assert "--to must name a store that is empty" in told

    def test_what_becomes_different_before_the_end_is_noticed(
        self, source: str, target: str, tmp_path: Path, eventually: Eventually
    ) -> None:
        """Another program writes to the target, after all was read from the source but its end."""
        run("export", "--from", source, str(tmp_path / "a.jsonl"))
        *lines, end = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
        with subprocess.Popen(
            [sys.executable, "-m", "shop", "import", "--to", target],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(b"".join(lines))
            process.stdin.flush()
            path = Path(target.removeprefix("sqlite:///"))
            eventually(lambda: path.exists() and len(everything(target)) > BATCH // 2)
            tamper(target, "UPDATE events SET time = time + 1 WHERE position = 1")
            _, errors = process.communicate(end, timeout=PATIENCE)
        assert process.returncode == 1
        assert b"the target differs from the source" in errors


class TestCommandLine:
    @pytest.mark.parametrize("command", ["copy", "export", "import"])
    def test_every_command_explains_itself(self, command: str, capsys: Captured) -> None:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"python -m shop {command}" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "line",
        [
            "copy",
            "copy --to mysql://me:s3cret@db/x",
            "copy --from postgresql://me:s3cret@db --to memory://",
            "copy --to @/nowhere",
            "copy mongodb://me:s3cret@db/x --to memory://",
            "copy --to memory://",
            "copy --from sqlite:///a.db --to sqlite:///a.db",
            "export --from postgresql://me:s3c%ret@db/",
            "import a b postgresql://me:s3cret@db/x",
        ],
    )
    def test_a_wrong_one_is_refused_without_its_passwords(
        self, line: str, capsys: Captured
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(line.split(), {"SHOP_EVENT_STORE": "memory://"})
        told = capsys.readouterr()
        assert told.err
        assert "s3c" not in told.err + told.out

    @pytest.mark.parametrize("line", ["copy --to sqlite:///b.db", "export", "export a.jsonl"])
    @pytest.mark.parametrize("given", [True, False])
    def test_a_source_is_not_made(
        self,
        line: str,
        given: bool,
        tmp_path: Path,
        capsys: Captured,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        environ = {} if given else {"SHOP_EVENT_STORE": "sqlite:///a.db"}
        option = ["--from", "sqlite:///a.db"] if given else []
        with pytest.raises(SystemExit, match="2"):
            main([*line.split(), *option], environ)
        told = capsys.readouterr().err
        assert f"cannot find the database {tmp_path}/a.db" in told
        assert f"{'--from' if given else 'SHOP_EVENT_STORE'} says where to look" in told
        assert list(tmp_path.iterdir()) == []

    def test_a_file_to_import_must_be_there(
        self, target: str, tmp_path: Path, capsys: Captured
    ) -> None:
        with pytest.raises(SystemExit, match="1"):
            run("import", "--to", target, f"{tmp_path}/a.jsonl")
        assert "a.jsonl: No such file" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
