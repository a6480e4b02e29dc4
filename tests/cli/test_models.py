"""``verify`` and ``rebuild``, beside a shop that runs."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from typing import Any, BinaryIO

import msgspec
import pytest

from shop.bootstrap import PROJECTIONS, bootstrap
from shop.cli import main
from shop.config import Settings
from shop.domain.product import RenameProduct
from shop.eventsourcing import Command, Shadow
from shop.projections.shop_stats import ShopStats, Stats
from shop.runtime import Shop
from tests.cli.conftest import Captured, create, forget_products, tamper, total_products
from tests.conftest import Eventually
from tests.servers import PATIENCE, environment


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

    def test_of_many_differences_some_are_printed(
        self, shop: Shop, environ: dict[str, str], capsys: Captured
    ) -> None:
        forget_products(shop)
        assert main(["verify", "product_catalog", "--differences", "2"], environ) == 1
        verdict, *lines, left = capsys.readouterr().out.splitlines()
        assert "differs from the log in 3 models" in verdict
        assert len(lines) == 2 * 3
        assert left == "  and 1 more (--differences 3 prints all)"
        assert main(["verify", "product_catalog"], environ) == 1
        assert len(capsys.readouterr().out.splitlines()) == 1 + 3 * 3

    def test_models_of_other_code_are_told(
        self,
        shop: Shop,
        environ: dict[str, str],
        capsys: Captured,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tamper(shop)
        monkeypatch.setattr(ShopStats, "version", 2)
        assert main(["verify", "shop_stats"], environ) == 1
        assert "the next start builds them anew" in capsys.readouterr().out

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

    def test_what_nobody_reads_does_not_hide_a_difference(
        self, shop: Shop, environ: dict[str, str], unread: BinaryIO
    ) -> None:
        tamper(shop)
        done = subprocess.run(
            [sys.executable, "-m", "shop", "verify"],
            env=environment(**environ), stdout=unread, stderr=unread, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        assert done.returncode == 1

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

    def test_it_starts_no_projections(self, environ: dict[str, str], capsys: Captured) -> None:
        """Else a command that looks would do, too."""
        settings = Settings.from_env(environ)
        with bootstrap(settings) as shop:
            id = create(shop, "Mouse")
        with closing(bootstrap(settings)) as shop:
            shop.commands.dispatch(Command.new(RenameProduct(name="Rat"), id))
        assert main(["verify"], environ) == 0
        verified = capsys.readouterr().out.splitlines()
        assert "product_catalog: agrees with the log, up to position 2, 1 event behind" in verified
        assert "shop_stats: agrees with the log, up to position 3" in verified  # no concern of it
        assert main(["rebuild", "shop_stats"], environ) == 0
        with closing(bootstrap(settings)) as shop:
            assert shop.reader("shop_stats").position() == 3
            assert shop.reader("product_catalog").position() == 2


class Newcomer(ShopStats):
    name = "newcomer"


BOTH = pytest.mark.parametrize("line", [["verify"], ["rebuild", "--all"]], ids=" ".join)


@BOTH
def test_one_that_never_ran_keeps_nobody_from_the_others(
    line: list[str],
    shop: Shop,
    environ: dict[str, str],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shop.bootstrap.PROJECTIONS", (Newcomer(), *PROJECTIONS))
    with pytest.raises(SystemExit, match="1"):
        main(line, environ)
    told = capsys.readouterr()
    assert [text.split(":")[0] for text in told.out.splitlines()] == list(shop.projections)
    assert told.err.splitlines()[-1].startswith("newcomer has no read models yet, as it never ran")


@BOTH
def test_one_that_is_rebuilt_meanwhile_keeps_nobody_from_the_others(
    line: list[str],
    shop: Shop,
    environ: dict[str, str],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catch_up = Shadow.catch_up

    def overtaken(self: Shadow, *arguments: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Shadow, "catch_up", catch_up)
            if self._projection.name == "shop_stats":
                Shadow(shop.progress["shop_stats"].projection, shop.store, shop.models)
            self.catch_up(*arguments)

    monkeypatch.setattr(Shadow, "catch_up", overtaken)
    with pytest.raises(SystemExit, match="1"):
        main(line, environ)
    told = capsys.readouterr()
    done = [text.split(":")[0] for text in told.out.splitlines()]
    assert done == [name for name in shop.projections if name != "shop_stats"]
    assert "shop_stats: another rebuild or verify of it began meanwhile" in told.err


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
