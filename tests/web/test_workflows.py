"""The deadlines of orders, and the workflows that keep them, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from shop.config import Settings
from shop.domain.payment_workflow import Payment
from shop.runtime import Shop
from shop.web import create_app
from tests.conftest import Eventually
from tests.web.conftest import in_one_process
from tests.web.shopper import Shopper, answered, running
from tests.web.test_health import figures

WORKFLOW = "shop.payment_workflow"


@pytest.fixture
def impatient(settings: Settings) -> Iterator[Shopper]:
    """A client of a shop where payments are due in no time."""
    with running(msgspec.structs.replace(settings, payment_deadline=0.05)) as shop:
        yield Shopper(create_app(shop))


def placed(shopper: Shopper) -> tuple[str, str]:
    """The ids of an order, and of the product of which it has two of five."""
    mouse = shopper.product(price=1000, stock=5)
    return shopper.order(shopper.customer(), mouse, 2), mouse


def workflow(shopper: Shopper, id: str) -> dict[str, Any] | None:
    items = answered(shopper.get("/workflows"))["items"]
    return next((item for item in items if item["id"] == id), None)


def test_an_open_order_shows_its_deadline_from_the_first_moment(shopper: Shopper) -> None:
    order, _ = placed(shopper)
    [event] = shopper.current("/events?name=shop.order.placed")["items"]
    due = datetime.fromisoformat(event["time"]) + timedelta(seconds=1800)
    first = shopper.current(f"/orders/{order}")["deadline"]
    assert datetime.fromisoformat(first) == due
    customer = shopper.current(f"/orders/{order}")["customer_id"]
    assert shopper.current("/orders")["items"][0]["deadline"] == first
    assert shopper.current(f"/customers/{customer}/orders")["orders"][0]["deadline"] == first


def test_so_does_its_workflow(shopper: Shopper, eventually: Eventually) -> None:
    order, _ = placed(shopper)
    eventually(lambda: workflow(shopper, order) is not None)
    eventually(lambda: (workflow(shopper, order) or {})["timers"])
    assert workflow(shopper, order) == {
        "workflow": WORKFLOW,
        "id": order,
        "status": "running",
        "phase": "running",
        "reason": "",
        "timers": [{"timer": "deadline", "due": shopper.current(f"/orders/{order}")["deadline"]}],
        "failure": None,
    }


def test_an_order_that_is_not_paid_in_time_is_cancelled(
    impatient: Shopper, eventually: Eventually
) -> None:
    order, mouse = placed(impatient)
    eventually(lambda: (workflow(impatient, order) or {}).get("status") == "compensated")
    shown = impatient.current(f"/orders/{order}")
    assert (shown["status"], shown["deadline"]) == ("cancelled", None)
    assert shown["reason"] == "payment deadline missed"
    assert impatient.current(f"/products/{mouse}")["stock"] == 5
    stream = impatient.current(f"/streams/shop.order/{order}")["items"]
    assert stream[-1]["data"] == {"reason": "payment deadline missed"}
    assert impatient.command("shop.order.pay", {"amount": 2000}, order).status_code == 409


def test_workflows_are_listed_by_status_newest_first_and_by_pages(
    shopper: Shopper, eventually: Eventually
) -> None:
    orders: list[str] = []
    for _ in range(3):  # workflows that begin at the same time may do so in any order
        orders.append(placed(shopper)[0])
        eventually(lambda: workflow(shopper, orders[-1]))
    shopper.done("shop.order.pay", {"amount": 2000}, orders[1])
    eventually(lambda: (workflow(shopper, orders[1]) or {}).get("status") == "completed")

    running = answered(shopper.get("/workflows?status=running"))["items"]
    assert [item["id"] for item in running] == [orders[2], orders[0]]
    page = answered(shopper.get("/workflows?limit=2"))
    assert [item["id"] for item in page["items"]] == orders[:0:-1]
    rest = answered(shopper.get(f"/workflows?limit=2&cursor={page['next']}"))
    assert ([item["id"] for item in rest["items"]], rest["next"]) == ([orders[0]], None)
    assert shopper.get("/workflows?status=tired").status_code == 400


def test_a_parked_workflow_is_shown_with_its_error_and_the_shop_is_ready_all_the_same(
    memory_shop: Shop,
    client: Shopper,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no timers today")

    with monkeypatch.context() as patched:
        patched.setattr(Payment, "set_timer", broken)
        order, _ = placed(client)
        eventually(lambda: (workflow(client, order) or {}).get("status") == "parked")
    failure = (workflow(client, order) or {})["failure"]
    assert failure["error"] == "RuntimeError: no timers today"
    assert failure["trigger"] == "shop.order.placed"
    eventually(lambda: client.get("/readyz").status_code == 200)
    ready = answered(client.get("/readyz"))
    told = f"workflow {WORKFLOW}: 1 parked, see /workflows?status=parked"
    assert (ready["problems"], ready["degraded"]) == ([], [told])
    [health] = ready["workflows"]
    assert (health["name"], health["state"], health["parked"]) == (WORKFLOW, "running", 1)
    assert health["timers"]["state"] == "running"
    assert figures(client)["shop_workflow_parked", WORKFLOW] == 1

    memory_shop.workflows[WORKFLOW].retry(UUID(order))
    eventually(lambda: (workflow(client, order) or {}).get("status") == "running")
    assert figures(client)["shop_workflow_parked", WORKFLOW] == 0
    assert answered(client.get("/readyz"))["degraded"] == []


@in_one_process
def test_timers_are_in_the_metrics(impatient: Shopper, eventually: Eventually) -> None:
    placed(impatient)
    eventually(lambda: figures(impatient)["shop_workflow_timers_fired_total", WORKFLOW] == 1)
    eventually(lambda: figures(impatient)["shop_workflow_lag_events", WORKFLOW] == 0)
    seen = figures(impatient)
    assert seen["shop_workflow_failed", WORKFLOW] == 0
    eventually(lambda: figures(impatient)["shop_workflow_timers_late_seconds", WORKFLOW] == 0)


def test_a_workflow_that_stopped_makes_the_shop_not_ready(
    memory_shop: Shop, client: Shopper, eventually: Eventually
) -> None:
    eventually(lambda: client.get("/readyz").status_code == 200)
    assert memory_shop.workflows[WORKFLOW].close(5)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert f"workflow {WORKFLOW} stopped" in answered(answer)["problems"]
    assert f"the timers of {WORKFLOW} stopped" in answered(answer)["problems"]
