"""How the shop says that it is well, or what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shop.config import Settings
from shop.eventsourcing import ConcurrencyError, Event, Query
from shop.runtime import Shop
from shop.web import create_app
from tests.conftest import Eventually
from tests.servers import ROOT
from tests.web.conftest import in_one_process
from tests.web.shopper import Shopper, answered, open_shop, problem, running

PROJECTIONS = {
    "product_catalog",
    "shop_stats",
    "order_summary",
    "customer_order_history",
    "workflows",
}


def figures(shopper: Shopper) -> dict[tuple[str, ...], float]:
    """The metrics: name and label values, and the figure."""
    answer = shopper.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def break_projection(monkeypatch: pytest.MonkeyPatch, shop: Shop, name: str) -> None:
    def fail(*arguments: object) -> None:
        raise ArithmeticError("no more numbers")

    monkeypatch.setattr(type(shop.projections[name].projection), "apply", fail)


def test_a_process_that_answers_is_alive(client: Shopper) -> None:
    assert client.get("/livez").json == {"status": "ok"}


@in_one_process
def test_a_shop_that_has_caught_up_is_ready(shopper: Shopper, eventually: Eventually) -> None:
    shopper.product()
    shopper.current("/stats")
    eventually(lambda: answered(shopper.get("/readyz"))["ready"])
    answer = shopper.get("/readyz")
    assert answer.status_code == 200
    health = answered(answer)
    assert (health["head"], health["problems"]) == (2, [])
    assert {projection["name"] for projection in health["projections"]} == PROJECTIONS
    for projection in health["projections"]:
        assert projection["state"] == "running"
        assert projection["failure"] is None


def test_a_projection_that_failed_is_told_with_its_event(
    memory_shop: Shop,
    client: Shopper,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    break_projection(monkeypatch, memory_shop, "shop_stats")
    result = client.done("shop.product.create", {"name": "Mouse", "price": 1, "stock": 1})
    event = result["events"][0]
    eventually(lambda: client.get("/readyz").status_code == 503)
    eventually(lambda: "shop_stats failed" in client.get("/readyz").text)
    answer = client.get("/readyz")
    assert answer.headers["Retry-After"] == "1"
    health = answered(answer)
    [problem_told] = [line for line in health["problems"] if "shop_stats" in line]
    assert event["id"] in problem_told
    assert "no more numbers" in problem_told
    [stats] = [entry for entry in health["projections"] if entry["name"] == "shop_stats"]
    assert (stats["state"], stats["position"], stats["lag"]) == ("failed", 0, 2)
    assert stats["failure"]["event_id"] == event["id"]
    assert client.get("/livez").status_code == 200


def test_a_paused_projection_makes_the_shop_not_ready(memory_shop: Shop, client: Shopper) -> None:
    memory_shop.projections["shop_stats"].pause()
    client.product()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answered(answer)["problems"] == ["projection shop_stats is paused"]


def test_a_shop_that_is_stopping_is_not_ready(memory_shop: Shop, client: Shopper) -> None:
    memory_shop.begin_shutdown()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answered(answer)["problems"] == ["the shop is stopping"]


def test_lost_read_models_are_not_told_as_the_event_store(
    tmp_path: Path, eventually: Eventually
) -> None:
    models = tmp_path / "models.db"
    settings = Settings(
        event_store=f"sqlite:///{tmp_path / 'events.db'}", model_store=f"sqlite:///{models}"
    )
    with running(settings) as shop:
        client = Shopper(create_app(shop))
        eventually(lambda: client.get("/readyz").status_code == 200)
        models.unlink()
        eventually(lambda: f"stores: {models} was deleted" in client.get("/readyz").text)
        assert answered(client.get("/readyz"))["head"] == 0


def test_requests_are_counted_by_method_route_and_status(client: Shopper) -> None:
    mouse = client.product()
    client.product()
    client.get(f"/products/{mouse}")
    client.get("/products/x")
    client.ask("NONSENSE", "/products")
    client.get("/no/such/path")
    seen = figures(client)
    requests = "shop_http_requests_total"
    assert seen[requests, "POST", "/commands/<name>", "201"] == 2
    assert seen[requests, "GET", "/products/<id>", "404"] >= 1
    assert seen[requests, "other", "none", "405"] == 1
    assert seen[requests, "GET", "none", "404"] == 1
    assert seen["shop_http_request_seconds_count", "/commands/<name>"] == 2
    assert seen["shop_http_request_seconds_sum", "/commands/<name>"] > 0


def test_figures_are_told_without_when_each_began(client: Shopper) -> None:
    client.product()
    client.get("/products")
    names = {name for name, *_ in figures(client)}
    assert "shop_http_request_seconds_bucket" in names
    assert not [name for name in names if name.endswith("_created")]


@in_one_process
def test_appends_events_and_the_head_are_told(shopper: Shopper) -> None:
    mouse = shopper.product()
    shopper.done("shop.product.rename", {"name": "Rat"}, mouse)
    seen = figures(shopper)
    assert seen["shop_appends_total",] == 2
    assert seen["shop_appended_events_total",] == 3
    assert seen["shop_conflicts_total",] == 0
    assert seen["shop_head",] == 3


@pytest.mark.parametrize("settings", ["web"], indirect=True)
def test_a_web_node_tells_what_became_of_its_commands(shopper: Shopper) -> None:
    mouse = shopper.product()
    shopper.done("shop.product.rename", {"name": "Rat"}, mouse)
    seen = figures(shopper)
    assert seen["shop_bus_commands_sent_total",] == 2
    assert seen["shop_bus_commands_retried_total",] == 0


def test_a_replayed_command_is_not_counted_again(client: Shopper) -> None:
    mouse, key = client.product(), str(uuid4())
    for _ in range(3):
        client.done("shop.product.rename", {"name": "Rat"}, mouse, idempotency_key=key)
    seen = figures(client)
    assert (seen["shop_appends_total",], seen["shop_appended_events_total",]) == (2, 3)


def test_a_conflict_is_counted(memory_shop: Shop, client: Shopper) -> None:
    client.product()
    [event] = memory_shop.store.read(Query(limit=1))
    again = Event.new(event.aggregate, version=1, data=event.data)
    with pytest.raises(ConcurrencyError):
        memory_shop.store.append([again])
    seen = figures(client)
    assert (seen["shop_conflicts_total",], seen["shop_appends_total",]) == (1, 1)


@in_one_process
def test_projections_that_keep_up_do_not_lag(shopper: Shopper) -> None:
    shopper.product()
    for path in ("/products", "/stats", "/orders"):
        shopper.current(path)
    seen = figures(shopper)
    for name in ("product_catalog", "shop_stats", "order_summary"):
        assert seen["shop_projection_position", name] == 2
        assert seen["shop_projection_lag_events", name] == 0
        assert seen["shop_projection_lag_seconds", name] == 0
        assert seen["shop_projection_failed", name] == 0


def test_a_projection_that_stands_still_lags(
    memory_shop: Shop, client: Shopper, eventually: Eventually
) -> None:
    memory_shop.projections["shop_stats"].pause()
    client.product()
    seen = figures(client)
    assert seen["shop_projection_lag_events", "shop_stats"] == 2
    assert 0 < seen["shop_projection_lag_seconds", "shop_stats"] < 10
    eventually(
        lambda: (
            figures(client)["shop_projection_lag_seconds", "shop_stats"]
            > seen["shop_projection_lag_seconds", "shop_stats"]
        )
    )


def test_a_projection_that_failed_is_in_the_metrics(
    memory_shop: Shop,
    client: Shopper,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    break_projection(monkeypatch, memory_shop, "shop_stats")
    client.product()
    eventually(lambda: figures(client)["shop_projection_failed", "shop_stats"] == 1)
    assert figures(client)["shop_projection_failed", "product_catalog"] == 0


def test_metrics_and_health_are_told_without_the_store(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_shop(f"sqlite:///{tmp_path}/shop.db") as shop:
        client = Shopper(create_app(shop))
    # A store that does not answer takes its time-out for every question: one is enough.
    monkeypatch.setattr(Shop, "lag_seconds", lambda *_: pytest.fail("the store is asked again"))
    assert ("shop_head",) not in figures(client)
    assert figures(client)["shop_appends_total",] == 0
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answered(answer)["head"] is None
    assert problem(client.get("/events")) == (503, "unavailable")


def test_two_apps_of_one_shop_count_for_themselves(memory_shop: Shop, client: Shopper) -> None:
    other = Shopper(create_app(memory_shop))
    client.product()
    assert ("shop_http_requests_total", "POST", "/commands/<name>", "201") not in figures(other)
    assert figures(other)["shop_appends_total",] == 1


def test_every_metric_is_described(nats: str, tmp_path: Path) -> None:
    url = f"nats+jetstream://{nats}?prefix=t{uuid4().hex}"
    alone = Settings(event_store=f"sqlite:///{tmp_path / 'shop.db'}", event_bus=url)
    told: set[str] = set()
    with running(alone) as shop, running(msgspec.structs.replace(alone, role="web")) as web:
        for process in (shop, web):
            text = Shopper(create_app(process)).get("/metrics").text
            told |= set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    deployment = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`shop_.*?) \|", deployment, re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(told)
