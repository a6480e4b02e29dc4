"""``events``, and the events that it prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from shop.cli import main
from shop.runtime import Shop
from shop.web import create_app
from tests.cli.conftest import Captured, create
from tests.servers import PATIENCE, environment


def events(capsys: Captured, environ: dict[str, str], *options: str) -> list[int]:
    """Positions of the events that are printed."""
    assert main(["events", *options], environ) == 0
    return [json.loads(line)["position"] for line in capsys.readouterr().out.splitlines()]


def test_it_prints_what_http_shows(shop: Shop, environ: dict[str, str], capsys: Captured) -> None:
    assert main(["events"], environ) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == create_app(shop).test_client().get("/events").get_json()["items"]
    assert len(printed) == 6


def test_after_and_limit_choose_a_part(
    shop: Shop, environ: dict[str, str], capsys: Captured
) -> None:
    assert events(capsys, environ, "--after", "2", "--limit", "3") == [3, 4, 5]


def test_options_of_different_kinds_all_have_to_match(
    shop: Shop, environ: dict[str, str], capsys: Captured
) -> None:
    id = create(shop, "Lamp")
    assert events(capsys, environ, "--id", str(id)) == [7, 8]
    assert events(capsys, environ, "--id", str(id), "--aggregate", "shop.pricing") == [8]
    assert events(capsys, environ, "--name", "shop.pricing.set") == [2, 4, 6, 8]


def test_of_an_option_given_several_times_any_has_to_match(
    shop: Shop, environ: dict[str, str], capsys: Captured
) -> None:
    names = ["--name", "shop.pricing.set", "--name", "shop.product.created"]
    assert events(capsys, environ, *names) == [1, 2, 3, 4, 5, 6]


def test_following_prints_what_happens_meanwhile_until_the_limit(
    shop: Shop, environ: dict[str, str]
) -> None:
    with following(environ, "--after", "4", "--limit", "4") as process:
        assert [position(process) for _ in range(2)] == [5, 6]
        create(shop, "Lamp")
        assert [position(process) for _ in range(2)] == [7, 8]
        assert process.wait(PATIENCE) == 0


def test_ctrl_c_ends_it_quietly(shop: Shop, environ: dict[str, str]) -> None:
    with following(environ) as process:
        position(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_reader_who_has_had_enough_ends_it_quietly(shop: Shop, environ: dict[str, str]) -> None:
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
