"""The command line, in this process; what needs a process of its own has one."""

from __future__ import annotations

import configparser
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec
import pytest

from shop import __version__
from shop.bootstrap import bootstrap, open_backend
from shop.cli import main
from shop.config import Settings
from shop.domain.customer import RegisterCustomer
from shop.domain.order import PlaceOrder, RequestedItem
from shop.domain.payment_workflow import Payment
from shop.domain.product import CreateProduct, RenameProduct
from shop.eventsourcing import Command, ModelSession
from shop.projections.shop_stats import STATS_ID, Stats
from shop.runtime import Shop
from shop.urls import redacted
from shop.web import create_app
from tests.conftest import Eventually
from tests.servers import PATIENCE, ROOT, environment
from tests.stores import KINDS

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"SHOP_EVENT_STORE": f"sqlite:///{tmp_path / 'shop.db'}"}


@pytest.fixture
def shop(environ: dict[str, str]) -> Iterator[Shop]:
    """A shop that runs in the background, with three products."""
    with bootstrap(Settings.from_env(environ)) as shop:
        for name in ("Mouse", "Keyboard", "Screen"):
            create(shop, name)
        yield shop


def create(shop: Shop, name: str) -> UUID:
    result = shop.commands.dispatch(Command.new(CreateProduct(name=name, price=999, stock=5)))
    assert shop.wait_for(result.position, 10)
    return result.aggregate.id


def tamper(shop: Shop) -> None:
    """Have the read models say something that the log does not."""
    checkpoint = shop.models.checkpoint("shop_stats")
    assert checkpoint is not None
    session = ModelSession(shop.models, "shop_stats", checkpoint.generation)
    session.position = checkpoint.position + 1
    session.put(STATS_ID, Stats(total_products=99))
    shop.models.commit(checkpoint, checkpoint, session.changes())


def total_products(shop: Shop) -> int:
    stats = shop.reader("shop_stats").get(Stats, STATS_ID).value
    return stats.total_products if stats else 0


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


class TestConfig:
    def test_it_shows_the_settings_in_effect(self, capsys: Captured) -> None:
        assert main(["config"], {"SHOP_EVENT_STORE": "memory://"}) == 0
        shown = capsys.readouterr().out.splitlines()
        assert "SHOP_EVENT_STORE=memory://" in shown
        assert "SHOP_MODEL_STORE=memory://" in shown
        assert len(shown) == len(Settings.__struct_fields__)

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


class TestEvents:
    def events(self, capsys: Captured, environ: dict[str, str], *options: str) -> list[int]:
        """Positions of the events that are printed."""
        assert main(["events", *options], environ) == 0
        return [json.loads(line)["position"] for line in capsys.readouterr().out.splitlines()]

    def test_it_prints_what_http_shows(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        assert main(["events"], environ) == 0
        printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert printed == create_app(shop).test_client().get("/events").get_json()["items"]
        assert len(printed) == 6

    def test_after_and_limit_choose_a_part(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        assert self.events(capsys, environ, "--after", "2", "--limit", "3") == [3, 4, 5]

    def test_options_of_different_kinds_all_have_to_match(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        id = create(shop, "Lamp")
        assert self.events(capsys, environ, "--id", str(id)) == [7, 8]
        assert self.events(capsys, environ, "--id", str(id), "--aggregate", "shop.pricing") == [8]
        assert self.events(capsys, environ, "--name", "shop.pricing.set") == [2, 4, 6, 8]

    def test_of_an_option_given_several_times_any_has_to_match(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        names = ["--name", "shop.pricing.set", "--name", "shop.product.created"]
        assert self.events(capsys, environ, *names) == [1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("shop.order.place", "there is no event 'shop.order.place'; near: shop.order.placed"),
            ("?", "there is no event '?'; known: shop.product.created"),
        ],
    )
    def test_an_event_that_there_is_not_is_refused_and_others_are_named(
        self, shop: Shop, environ: dict[str, str], capsys: Captured, name: str, told: str
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["events", "--name", name], environ)
        assert told in capsys.readouterr().err

    def test_following_prints_what_happens_meanwhile_until_the_limit(
        self, shop: Shop, environ: dict[str, str]
    ) -> None:
        with following(environ, "--after", "4", "--limit", "4") as process:
            assert [position(process) for _ in range(2)] == [5, 6]
            create(shop, "Lamp")
            assert [position(process) for _ in range(2)] == [7, 8]
            assert process.wait(PATIENCE) == 0

    def test_ctrl_c_ends_it_quietly(self, shop: Shop, environ: dict[str, str]) -> None:
        with following(environ) as process:
            position(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            assert process.stderr is not None
            assert process.stderr.read() == b""

    def test_a_reader_who_has_had_enough_ends_it_quietly(
        self, shop: Shop, environ: dict[str, str]
    ) -> None:
        with following(environ) as process:
            assert process.stdout is not None
            position(process)
            process.stdout.close()
            create(shop, "Lamp")
            assert process.wait(PATIENCE) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""


def following(environ: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shop", "events", "--follow", *options]
    return subprocess.Popen(
        command, env=environment(**environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def position(process: subprocess.Popen[bytes]) -> int:
    """That of the next event printed."""
    assert process.stdout is not None
    return int(json.loads(process.stdout.readline())["position"])


class TestVerify:
    def test_read_models_that_are_right_pass(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        assert main(["verify"], environ) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sorted(line.split(":")[0] for line in lines) == sorted(shop.projections)
        assert all("agrees with the log, up to position" in line for line in lines)

    def test_what_differs_is_printed(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        tamper(shop)
        assert main(["verify"], environ) == 1
        printed = capsys.readouterr().out
        assert "shop_stats: differs from the log in 1 model," in printed
        assert '"total_products":99' in printed
        assert '"total_products":3' in printed
        assert "product_catalog: agrees" in printed

    def test_it_changes_nothing(self, shop: Shop, environ: dict[str, str]) -> None:
        tamper(shop)
        before = shop.models.checkpoint("shop_stats")
        main(["verify"], environ)
        assert shop.models.checkpoint("shop_stats") == before
        assert total_products(shop) == 99

    def test_only_the_projections_named_are_looked_at(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        tamper(shop)
        assert main(["verify", "product_catalog"], environ) == 0
        assert "shop_stats" not in capsys.readouterr().out

    def test_an_unknown_projection_is_refused_and_the_known_are_named(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["verify", "profits"], environ)
        assert "'profits'; known: product_catalog" in capsys.readouterr().err

    def test_progress_is_told_in_lines_where_there_is_no_terminal(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        main(["verify", "shop_stats"], environ)
        assert capsys.readouterr().err == "shop_stats: 6 of 6 events\n"

    def test_a_running_shop_goes_on_meanwhile(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        for _ in range(5):
            assert main(["verify"], environ) == 0
            create(shop, "Lamp")
        assert total_products(shop) == 8


class TestRebuild:
    def test_it_mends_read_models_of_a_running_shop(
        self, shop: Shop, environ: dict[str, str], eventually: Eventually
    ) -> None:
        tamper(shop)
        assert main(["rebuild", "shop_stats"], environ) == 0
        assert total_products(shop) == 3
        create(shop, "Lamp")
        eventually(lambda: total_products(shop) == 4)

    def test_it_rebuilds_all(self, shop: Shop, environ: dict[str, str], capsys: Captured) -> None:
        assert main(["rebuild", "--all"], environ) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == list(shop.projections)
        assert all("built anew, up to position 6" in line for line in lines)

    def test_a_report_says_what_it_changed(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        tamper(shop)
        assert main(["rebuild", "shop_stats", "--report"], environ) == 0
        printed = capsys.readouterr().out
        assert '"total_products":99' in printed
        assert '"total_products":3' in printed

    def test_it_starts_no_projections(self, environ: dict[str, str]) -> None:
        """Else a command that looks would do, too."""
        settings = Settings.from_env(environ)
        with bootstrap(settings) as shop:
            id = create(shop, "Mouse")
        with closing(bootstrap(settings)) as shop:
            shop.commands.dispatch(Command.new(RenameProduct(name="Rat"), id))
        assert main(["verify"], environ) == 0
        assert main(["rebuild", "shop_stats"], environ) == 0
        with closing(bootstrap(settings)) as shop:
            assert shop.reader("shop_stats").position() == 3
            assert shop.reader("product_catalog").position() == 2


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
        assert "SHOP_EVENT_STORE says where to look" in told
        assert list(tmp_path.iterdir()) == []

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
            assert "SHOP_EVENT_STORE says where to look" in told.err
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
        if name == "shop.cli.moving":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
runpy.run_module("shop", run_name="__main__", alter_sys=True)
"""


class TestWorkflows:
    @pytest.fixture
    def orders(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
        """Two orders: the workflow of the first is parked, since it could not set a timer."""
        result = shop.commands.dispatch(Command.new(RegisterCustomer("Ada", "ada@example.org")))
        mouse = create(shop, "Mouse")

        def order() -> UUID:
            items = (RequestedItem(mouse, 1),)
            placed = shop.commands.dispatch(Command.new(PlaceOrder(result.aggregate.id, items)))
            assert shop.workflows["shop.payment_workflow"].wait_for(placed.position, 10)
            assert shop.wait_for(shop.store.head(), 10)
            return placed.aggregate.id

        def broken(*arguments: object) -> None:
            raise RuntimeError("no timers today")

        with monkeypatch.context() as patched:
            patched.setattr(Payment, "set_timer", broken)
            parked = order()
        return [parked, order()]

    def listed(self, environ: dict[str, str], capsys: Captured, *options: str) -> dict[str, str]:
        """The status of each, by id."""
        assert main(["workflows", *options], environ) == 0
        lines = map(json.loads, capsys.readouterr().out.splitlines())
        return {line["id"]: line["status"] for line in lines}

    def test_it_prints_what_http_shows(
        self, shop: Shop, orders: list[UUID], environ: dict[str, str], capsys: Captured
    ) -> None:
        assert main(["workflows"], environ) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        shown = create_app(shop).test_client().get("/workflows").json
        assert shown is not None
        assert lines == shown["items"][::-1]
        assert lines[0]["failure"]["error"] == "RuntimeError: no timers today"

    def test_a_status_chooses_some(
        self, orders: list[UUID], environ: dict[str, str], capsys: Captured
    ) -> None:
        parked, running = map(str, orders)
        assert self.listed(environ, capsys) == {parked: "parked", running: "running"}
        assert self.listed(environ, capsys, "--status", "parked") == {parked: "parked"}

    @pytest.mark.parametrize("by_id", [True, False])
    def test_a_parked_one_is_retried_by_the_running_shop(
        self,
        orders: list[UUID],
        environ: dict[str, str],
        capsys: Captured,
        eventually: Eventually,
        *,
        by_id: bool,
    ) -> None:
        parked = str(orders[0])
        assert main(["workflows", "retry", parked if by_id else "--all"], environ) == 0
        assert f"shop.payment_workflow/{parked}: is tried again" in capsys.readouterr().out
        eventually(lambda: self.listed(environ, capsys)[parked] == "running")

    @pytest.mark.parametrize("role", ["web", "worker"])
    def test_it_may_be_retried_with_the_settings_of_any_process(
        self, orders: list[UUID], environ: dict[str, str], nats: str, role: str
    ) -> None:
        settings = {**environ, "SHOP_ROLE": role, "SHOP_EVENT_BUS": f"nats://{nats}?prefix=cli"}
        assert main(["workflows", "retry", str(orders[0])], settings) == 0

    def test_those_that_cannot_be_retried_are_told_and_the_others_are_retried(
        self, orders: list[UUID], environ: dict[str, str], capsys: Captured
    ) -> None:
        parked, running = orders
        unknown = uuid4()
        ids = [str(id) for id in (unknown, running, parked)]
        assert main(["workflows", "retry", *ids], environ) == 1
        told = capsys.readouterr()
        assert told.err.splitlines() == [
            f"shop.payment_workflow/{unknown} does not exist",
            f"shop.payment_workflow/{running} is not parked",
        ]
        assert told.out == f"shop.payment_workflow/{parked}: is tried again\n"


def test_progress_is_a_bar_on_a_terminal(
    shop: Shop, environ: dict[str, str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which has rich take anything for a terminal
    monkeypatch.setenv("TERM", "xterm")
    main(["verify", "shop_stats"], environ)
    assert "━" in capsys.readouterr().err


def test_differences_are_json(shop: Shop, environ: dict[str, str], capsys: Captured) -> None:
    tamper(shop)
    main(["verify", "shop_stats"], environ)
    *_, in_use, from_log = capsys.readouterr().out.splitlines()
    for line in (in_use, from_log):
        msgspec.json.decode(line.partition(":")[2], type=Stats)
