"""The command line as a whole; what needs a process of its own has one."""

from __future__ import annotations

import configparser
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from shop import __version__
from shop.bootstrap import bootstrap
from shop.cli import main
from shop.config import Settings
from shop.runtime import Shop
from shop.stores import open_backend
from shop.urls import redacted
from tests.cli.conftest import Captured
from tests.servers import PATIENCE, ROOT, environment
from tests.stores import KINDS


class TestHelp:
    @pytest.mark.parametrize(
        "command", ["serve", "events", "rebuild", "verify", "workflows", "config"]
    )
    def test_every_command_explains_itself(self, command: str, capsys: Captured) -> None:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"python -m shop {command}" in capsys.readouterr().out

    def test_the_exit_codes_are_explained(self, capsys: Captured) -> None:
        with pytest.raises(SystemExit, match="0"):
            main(["--help"])
        assert "exit codes:" in capsys.readouterr().out

    def test_the_version_is_that_of_the_package(self, capsys: Captured) -> None:
        with pytest.raises(SystemExit, match="0"):
            main(["--version"], {"SHOP_ROLE": "king"})
        assert capsys.readouterr().out == f"shop {__version__}\n"
        metadata = configparser.ConfigParser()
        metadata.read(ROOT / "setup.cfg")
        assert metadata["metadata"]["version"] == "attr: shop.__version__"

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "sell",
            "events --after -1",
            "events --after x",
            "events --limit 0",
            "events --id 7",
            "serve --listen 8080",
            "serve --listen :x",
            "serve --listen nohost.invalid:1",
            "serve --listen [::zz]:1",
            "serve --threads 0",
            "rebuild",
            "rebuild --all shop_stats",
        ],
    )
    def test_a_wrong_command_line_is_refused(self, line: str, capsys: Captured) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(line.split(), {"SHOP_EVENT_STORE": "memory://"})
        assert "usage:" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("events --name shop.order.place", "no event 'shop.order.place'; near: shop.order.pl"),
            ("events --name ?", "there is no event '?'; known: shop.product.created"),
            ("events --aggregate shop.oder", "no aggregate 'shop.oder'; near: shop.order"),
            ("events --aggregate ?", "there is no aggregate '?'; known: "),
            ("workflows --status bad", "invalid choice: 'bad' (choose from "),
            ("copy --to @/missing", "--to: cannot read /missing: No such file or directory"),
        ],
    )
    def test_what_would_have_been_right_is_told(
        self, line: str, told: str, capsys: Captured
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(line.split(), {"SHOP_EVENT_STORE": "memory://"})
        assert told in capsys.readouterr().err


class TestConfig:
    def test_it_shows_the_settings_in_effect(self, capsys: Captured) -> None:
        assert main(["config"], {"SHOP_EVENT_STORE": "memory://"}) == 0
        shown = capsys.readouterr().out.splitlines()
        assert "SHOP_EVENT_STORE=memory://" in shown
        assert "SHOP_MODEL_STORE=memory://" in shown
        assert len(shown) == len(Settings.__struct_fields__) + 1
        assert shown[-1].startswith("# Shop ")
        assert shown[-1].endswith("commands 12, projections 5, workflows 1, reads 7")

    def test_it_tells_an_application_that_is_none(self, capsys: Captured) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["config"], {"SHOP_APPLICATION": "no_such_module:APPLICATION"})
        assert "there is no module no_such_module" in capsys.readouterr().err

    def test_it_shows_where_the_files_are(
        self, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        stores = {"SHOP_EVENT_STORE": "sqlite:///a.db", "SHOP_MODEL_STORE": "sqlite:////b/c.db"}
        assert main(["config"], stores) == 0
        assert capsys.readouterr().out.splitlines()[-2:] == [
            f"# sqlite:///a.db is {tmp_path}/a.db",
            "# sqlite:////b/c.db is /b/c.db",
        ]
        assert list(tmp_path.iterdir()) == []

    def test_bad_settings_are_all_told(self, capsys: Captured) -> None:
        bad = {"SHOP_EVENT_STORE": "mysql://me:s3cret@db/x", "SHOP_ROLE": "king", "SHOP_X": "1"}
        with pytest.raises(SystemExit, match="2"):
            main(["config"], bad)
        told = capsys.readouterr()
        assert [line.split(":")[0].strip() for line in told.err.splitlines()[1:]] == sorted(bad)
        assert "s3cret" not in told.err
        assert told.out == ""


LOOKING = ["events", "events --follow", "verify", "rebuild --all"]


class TestFailures:
    @pytest.mark.parametrize("line", LOOKING)
    def test_a_store_that_cannot_be_used_is_told(
        self, line: str, tmp_path: Path, capsys: Captured
    ) -> None:
        (tmp_path / "diary").write_text("Dear diary, " * 500)
        with pytest.raises(SystemExit, match="1"):
            main(line.split(), {"SHOP_EVENT_STORE": f"sqlite:///{tmp_path}/diary"})
        assert "diary is not a SQLite database" in capsys.readouterr().err

    @pytest.mark.parametrize("line", LOOKING)
    @pytest.mark.parametrize("file", ["shop.db", "missing/shop.db"])
    def test_looking_makes_no_database_and_says_where_it_looked(
        self,
        line: str,
        file: str,
        tmp_path: Path,
        capsys: Captured,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit, match="2"):
            main(line.split(), {"SHOP_EVENT_STORE": f"sqlite:///{file}"})
        told = capsys.readouterr().err
        assert f"cannot find the database {tmp_path / file}: No such file" in told
        assert "SHOP_EVENT_STORE says where to look instead, such as sqlite:////" in told
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("line", ["verify", "rebuild --all"])
    def test_what_is_in_the_memory_of_another_process_is_not_looked_for(
        self, line: str, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(line.split(), {**environ, "SHOP_MODEL_STORE": "memory://"})
        told = capsys.readouterr().err
        assert "SHOP_MODEL_STORE is memory://, which is in the memory of the shop's own" in told

    @pytest.mark.parametrize("line", ["verify", "rebuild --all"])
    def test_looking_makes_no_database_of_read_models_either(
        self, line: str, shop: Shop, environ: dict[str, str], tmp_path: Path, capsys: Captured
    ) -> None:
        elsewhere = tmp_path / "models.db"
        with pytest.raises(SystemExit, match="2"):
            main(line.split(), {**environ, "SHOP_MODEL_STORE": f"sqlite:///{elsewhere}"})
        assert "SHOP_MODEL_STORE says where to look" in capsys.readouterr().err
        assert not elsewhere.exists()

    @pytest.mark.parametrize("kind", ["postgres", "mongodb"])
    @pytest.mark.parametrize("line", [*LOOKING, "workflows", "workflows retry --all", "export"])
    def test_looking_makes_no_shop_on_a_server_either(
        self, line: str, kind: str, request: pytest.FixtureRequest, capsys: Captured
    ) -> None:
        url = KINDS[kind](request)()
        for missing in (url, urlsplit(url)._replace(path="/missing").geturl()):
            with pytest.raises(SystemExit, match="2"):
                main(line.split(), {"SHOP_EVENT_STORE": missing})
            told = capsys.readouterr()
            assert f"cannot find the database {redacted(missing)}: there is no shop" in told.err
            own_kind = f"such as {url.partition(':')[0]}://"
            assert f"SHOP_EVENT_STORE says where to look instead, {own_kind}" in told.err
            assert told.out == ""
            with closing(open_backend(missing)) as backend:
                assert not backend.exists()
        bootstrap(Settings(event_store=url)).close()
        assert main(["events"], {"SHOP_EVENT_STORE": url}) == 0

    @pytest.mark.parametrize("line", ["verify", "rebuild --all"])
    def test_a_shop_that_never_ran_is_to_be_started_once(
        self, line: str, environ: dict[str, str], capsys: Captured
    ) -> None:
        bootstrap(Settings.from_env(environ)).close()
        with pytest.raises(SystemExit, match="1"):
            main(line.split(), environ)
        told = capsys.readouterr().err
        assert "product_catalog has no read models yet, as it never ran: start the shop" in told

    @pytest.mark.parametrize("line", ["events", "verify", "config", "schemas", "--help"])
    def test_a_full_disk_is_told_in_a_line(
        self, line: str, shop: Shop, environ: dict[str, str]
    ) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "shop", *line.split()],
                env=environment(**environ, PYTHONUNBUFFERED=""), stdout=full,
                stderr=subprocess.PIPE, timeout=PATIENCE, text=True, check=False,
            )  # fmt: skip
        assert done.returncode == 1
        told = [text for text in done.stderr.splitlines() if " of 6 events" not in text]
        assert told == ["cannot write to standard output: No space left on device"]

    @pytest.mark.parametrize("line", ["sell", *LOOKING])
    def test_a_failure_whose_message_nobody_reads_is_one_all_the_same(
        self, line: str, tmp_path: Path, unread: BinaryIO
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "shop", *line.split()],
            cwd=tmp_path, env=environment(), stdout=unread, stderr=unread, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        assert done.returncode == 2

    @pytest.mark.parametrize(
        ("line", "code", "told"),
        [
            ("events >&-", 1, "cannot write to standard output: Bad file descriptor\n"),
            ("import <&-", 1, "line 1: the file was cut off here: its end is missing\n"),
            ("verify profits >&- 2>&-", 2, ""),
        ],
    )
    def test_a_closed_standard_stream_is_told_like_any_other_that_cannot_be_used(
        self, line: str, code: int, told: str, shop: Shop, environ: dict[str, str]
    ) -> None:
        done = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} -m shop {line}"],
            env=environment(**environ), capture_output=True, timeout=PATIENCE, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (code, "", told)

    def test_what_is_for_a_closed_stderr_does_not_go_to_stdout(
        self, shop: Shop, environ: dict[str, str]
    ) -> None:
        exported = [
            subprocess.run(
                ["sh", "-c", f"exec {sys.executable} -m shop export {closing}"],
                env=environment(**environ), capture_output=True, timeout=PATIENCE, check=True,
            ).stdout
            for closing in ("", "2>&-")
        ]  # fmt: skip
        assert exported[1] == exported[0]

    def test_ctrl_c_before_the_program_is_there_ends_it_quietly_too(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED_IMPORT],
            env=environment(), capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (130, b"")


INTERRUPTED_IMPORT = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "shop.cli.transfer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
runpy.run_module("shop", run_name="__main__", alter_sys=True)
"""
