"""``workflows``, and ``workflows retry``."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import BinaryIO
from uuid import UUID, uuid4

import pytest

from shop.cli import main
from shop.domain.customer import RegisterCustomer
from shop.domain.order import PlaceOrder, RequestedItem
from shop.domain.payment_workflow import Payment
from shop.eventsourcing import Command
from shop.runtime import Shop
from shop.web import create_app
from tests.cli.conftest import Captured, create
from tests.conftest import Eventually
from tests.servers import PATIENCE, environment


@pytest.fixture
def orders(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
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


def listed(environ: dict[str, str], capsys: Captured, *options: str) -> dict[str, str]:
    """The status of each, by id."""
    assert main(["workflows", *options], environ) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return {line["id"]: line["status"] for line in lines}


def test_it_prints_what_http_shows(
    shop: Shop, orders: list[UUID], environ: dict[str, str], capsys: Captured
) -> None:
    assert main(["workflows"], environ) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = create_app(shop).test_client().get("/workflows").json
    assert shown is not None
    assert lines == shown["items"][::-1]
    assert lines[0]["failure"]["error"] == "RuntimeError: no timers today"


def test_a_status_chooses_some(
    orders: list[UUID], environ: dict[str, str], capsys: Captured
) -> None:
    parked, running = map(str, orders)
    assert listed(environ, capsys) == {parked: "parked", running: "running"}
    assert listed(environ, capsys, "--status", "parked") == {parked: "parked"}


@pytest.mark.parametrize("by_id", [True, False])
def test_a_parked_one_is_retried_by_the_running_shop(
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
    eventually(lambda: listed(environ, capsys)[parked] == "running")
    assert main(["workflows", "retry", "--all"], environ) == 0
    assert capsys.readouterr().out == "no workflow is parked\n"


@pytest.mark.parametrize("role", ["web", "worker"])
def test_it_may_be_retried_with_the_settings_of_any_process(
    orders: list[UUID], environ: dict[str, str], nats: str, role: str
) -> None:
    settings = {**environ, "SHOP_ROLE": role, "SHOP_EVENT_BUS": f"nats://{nats}?prefix=cli"}
    assert main(["workflows", "retry", str(orders[0])], settings) == 0


def test_it_retries_all_where_nobody_reads_what_it_tells(
    orders: list[UUID],
    environ: dict[str, str],
    capsys: Captured,
    eventually: Eventually,
    unread: BinaryIO,
) -> None:
    parked = str(orders[0])
    done = subprocess.run(
        [sys.executable, "-m", "shop", "workflows", "retry", str(uuid4()), parked],
        env=environment(**environ), stdout=unread, stderr=unread, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    eventually(lambda: listed(environ, capsys)[parked] == "running")


def test_those_that_cannot_be_retried_are_told_and_the_others_are_retried(
    orders: list[UUID], environ: dict[str, str], capsys: Captured
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
