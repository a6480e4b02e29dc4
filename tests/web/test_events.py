"""The log over HTTP: events by position, and by aggregate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from queue import SimpleQueue
from uuid import uuid4

import msgspec
import pytest

from shop.backends.nats import Access, NatsConnection
from shop.backends.nats.client import Message
from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.domain.product import ProductCreated
from shop.eventsourcing import AggregateRef, Event
from shop.web import create_app
from tests.web.shopper import Shopper, answered, problem


def positions(shopper: Shopper, query: str) -> list[int]:
    return [event["position"] for event in answered(shopper.get(f"/events?{query}"))["items"]]


def test_an_event_is_shown_whole(shopper: Shopper) -> None:
    result = shopper.done("shop.product.create", {"name": "Mouse", "price": 1, "stock": 2})
    event = answered(shopper.get("/events"))["items"][0]
    time = datetime.fromisoformat(event.pop("time"))
    assert time.tzinfo is not None
    command = result["command_id"]
    assert event == {
        "position": 1,
        "id": result["events"][0]["id"],
        "name": "shop.product.created",
        "aggregate": "shop.product",
        "aggregate_id": result["aggregate_id"],
        "version": 1,
        "data": {"name": "Mouse", "stock": 2},
        "metadata": {"command_id": command, "correlation_id": command, "causation_id": command},
    }


def test_an_event_is_found_by_its_id(shopper: Shopper) -> None:
    shopper.product()
    listed = answered(shopper.get("/events"))["items"][1]
    assert shopper.get(f"/events/{listed['id']}").json == listed


def test_an_event_that_is_too_large_for_the_stream_is_where_its_message_says(nats: str) -> None:
    prefix = f"t{uuid4().hex}"
    bus = f"nats+jetstream://{nats}?prefix={prefix}&storage=memory"
    messages: SimpleQueue[Message] = SimpleQueue()
    large = ProductCreated("x" * 2_000_000, 1)
    with (
        NatsConnection(Access(servers=[nats])) as connection,
        bootstrap(Settings(event_store="memory://", event_bus=bus)) as shop,
    ):
        assert connection.wait_connected(10)
        connection.listen(f"{prefix}.events.>", messages.put)
        shop.store.append([Event.new(AggregateRef("shop.product", uuid4()), version=1, data=large)])
        href = msgspec.json.decode(messages.get(timeout=10).data)["href"]
        event = answered(Shopper(create_app(shop)).get(href))
    assert event["data"]["name"] == large.name


def test_events_are_found_by_position_name_and_aggregate(shopper: Shopper) -> None:
    mouse = shopper.product()  # positions 1 and 2
    ada = shopper.customer()  # 3, and the claim of the e-mail address at 4
    shopper.done("shop.product.rename", {"name": "Rat"}, mouse)  # 5
    assert positions(shopper, "after=0") == [1, 2, 3, 4, 5]
    assert positions(shopper, "after=3") == [4, 5]
    assert positions(shopper, "limit=2") == [1, 2]
    assert positions(shopper, "name=shop.product.renamed") == [5]
    assert positions(shopper, "name=shop.product.renamed&name=shop.product.created") == [1, 5]
    assert positions(shopper, "name=unheard.of") == []
    assert positions(shopper, "aggregate=shop.customer") == [3]
    assert positions(shopper, f"aggregate_id={mouse}") == [1, 2, 5]
    assert positions(shopper, f"aggregate=shop.product&aggregate_id={mouse}&after=1") == [5]
    assert positions(shopper, f"aggregate=shop.product&aggregate_id={ada}") == []


def test_a_listing_of_events_goes_on_where_it_stopped(shopper: Shopper) -> None:
    for _ in range(3):
        shopper.product()
    query, seen = "name=shop.product.created&limit=2", []
    page = answered(shopper.get(f"/events?{query}"))
    seen += page["items"]
    shopper.product()
    page = answered(shopper.get(f"/events?{query}&cursor={page['next']}"))
    seen += page["items"]
    assert [event["position"] for event in seen] == [1, 3, 5, 7]
    assert page["next"] is None


def test_the_log_is_read_to_the_greatest_position_there_could_be(shopper: Shopper) -> None:
    assert positions(shopper, f"after={2**63 - 1}") == []


def test_a_stream_is_read_by_version_and_tagged_with_the_last(shopper: Shopper) -> None:
    mouse = shopper.product()
    shopper.done("shop.product.rename", {"name": "Rat"}, mouse)
    shopper.done("shop.product.rename", {"name": "Cat"}, mouse)
    path = f"/streams/shop.product/{mouse}"
    answer = shopper.get(f"{path}?limit=2")
    assert [event["version"] for event in answered(answer)["items"]] == [1, 2]
    assert answer.headers["ETag"] == '"3"'
    rest = shopper.get(f"{path}?limit=2&cursor={answered(answer)['next']}")
    assert [event["version"] for event in answered(rest)["items"]] == [3]
    assert shopper.get(path, if_none_match='"3"').status_code == 304


def test_the_tag_of_a_stream_is_the_expected_version_of_a_command(shopper: Shopper) -> None:
    mouse = shopper.product()
    tag = shopper.get(f"/streams/shop.product/{mouse}").headers["ETag"]
    answer = shopper.command("shop.product.rename", {"name": "Rat"}, mouse, if_match=tag)
    assert answer.status_code == 200


@pytest.mark.parametrize("aggregate", ["shop.product", "nonsense", "A B", "%00"])
def test_a_stream_without_events_is_404(shopper: Shopper, aggregate: str) -> None:
    assert problem(shopper.get(f"/streams/{aggregate}/{uuid4()}")) == (404, "not-found")


def test_the_log_is_waited_for(shopper: Shopper) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(
            shopper.another().get, "/events", shop_min_position="2", prefer="wait=10"
        )
        shopper.product()
        assert len(answered(waiting.result())["items"]) == 2
