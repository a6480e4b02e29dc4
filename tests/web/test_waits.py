"""Waiting for read models, as clients prefer it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import msgspec
import pytest
from werkzeug.test import TestResponse

from shop.runtime import Shop
from shop.web.headers import preferred_wait
from shop.web.waits import Waits
from tests.conftest import Eventually
from tests.web.shopper import Shopper, answered, problem

MOUSE = {"name": "Wireless Mouse", "price": 2999, "stock": 50}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_a_command_is_answered_when_all_read_models_have_reached_it(shopper: Shopper) -> None:
    for n in range(1, 11):
        answer = shopper.command("shop.product.create", MOUSE, prefer="wait=10")
        assert answer.headers["Preference-Applied"] == "wait"
        assert answered(shopper.get("/stats"))["total_products"] == n
        assert len(answered(shopper.get("/products"))["items"]) == n


def test_a_command_that_need_not_wait_is_answered_at_once(shopper: Shopper) -> None:
    assert "Preference-Applied" not in shopper.command("shop.product.create", MOUSE).headers


def test_a_command_is_answered_at_the_time_out_and_done_all_the_same(
    memory_shop: Shop, client: Shopper
) -> None:
    memory_shop.projections["shop_stats"].pause()
    answer = client.command("shop.product.create", MOUSE, prefer="wait=0.05")
    assert answer.status_code == 201
    assert "Preference-Applied" not in answer.headers
    assert len(answered(client.get("/events"))["items"]) == 2


def test_a_wait_ends_as_soon_as_the_models_are_there(
    memory_shop: Shop, client: Shopper, threads: ThreadPoolExecutor, eventually: Eventually
) -> None:
    memory_shop.projections["shop_stats"].pause()
    waiting = threads.submit(client.command, "shop.product.create", MOUSE, prefer="wait=30")
    eventually(lambda: memory_shop.store.head() == 2)
    assert not waiting.done()
    memory_shop.projections["shop_stats"].resume()
    assert waiting.result(timeout=10).headers["Preference-Applied"] == "wait"


def test_waits_end_when_the_shop_does(
    memory_shop: Shop, client: Shopper, threads: ThreadPoolExecutor, eventually: Eventually
) -> None:
    memory_shop.projections["shop_stats"].pause()
    began = time.monotonic()
    waiting: list[Future[TestResponse]] = [
        threads.submit(client.another().command, "shop.product.create", MOUSE, prefer="wait=30"),
        threads.submit(client.another().get, "/stats", shop_min_position="99", prefer="wait=30"),
        threads.submit(client.another().get, "/events", shop_min_position="99", prefer="wait=30"),
    ]
    eventually(lambda: memory_shop.store.head() == 2)
    memory_shop.begin_shutdown()
    statuses = [future.result().status_code for future in waiting]
    assert statuses == [201, 503, 503]
    assert time.monotonic() - began < 10


def test_few_wait_for_long_and_the_others_for_a_short_time(
    threads: ThreadPoolExecutor, eventually: Eventually
) -> None:
    waits, long, reached = Waits(2), [], Event()

    def wait_for(seconds: float) -> bool:
        if seconds <= 0.1:
            return False
        long.append(seconds)
        return reached.wait(seconds)

    waiting = [threads.submit(waits.wait, wait_for, 25) for _ in range(6)]
    eventually(lambda: sum(future.done() for future in waiting) == 4)
    assert long == pytest.approx([24.9, 24.9])
    reached.set()
    assert sorted(future.result() for future in waiting) == [False] * 4 + [True] * 2
    assert waits.wait(wait_for, 25), "a place was not given back"


@pytest.mark.parametrize(
    ("seconds", "given"), [(0.0, [0.0]), (0.1, [0.1]), (1.0, [0.1, 0.9]), (99.0, [0.1, 29.9])]
)
def test_a_wait_is_as_long_as_preferred_and_thirty_seconds_at_most(
    seconds: float, given: list[float]
) -> None:
    asked: list[float] = []

    def wait_for(seconds: float) -> bool:
        asked.append(seconds)
        return False

    assert not Waits(1).wait(wait_for, seconds)
    assert asked == pytest.approx(given)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("wait=0.25", 0.25),
        ("WAIT=5", 5),
        ('wait="5"', 5),
        (" wait = 5 ", 5),
        ("respond-async, wait=10", 10),
        ("respond-async; wait=9, wait=10", 10),
        ("wait=10; foo=bar", 10),
        ("wait=1, wait=2", 1),
        ('foo="a, wait=9", wait=3', 3),
        ("return=minimal,wait=3", 3),
        (",, wait=4", 4),
        ("", None),
        ("wait", None),
        ("wait=", None),
        ("wait=x", None),
        ("wait=-1", None),
        ("wait=1e3", None),
        ("wait=nan", None),
        ("wait=99999999999999999999", 1e20),
        ("waiting=3", None),
        ("respond-async", None),
        ('"', None),
        ("=;,=", None),
    ],
)
def test_the_preference_is_read_as_rfc_7240_has_it(header: str, seconds: float | None) -> None:
    assert preferred_wait({"HTTP_PREFER": header}) == seconds


def test_a_long_header_is_read_quickly() -> None:
    began = time.monotonic()
    for part in ('"', 'a="', ";", " ", "a", "a;", 'a="\\"'):
        preferred_wait({"HTTP_PREFER": part * 100_000})
    assert time.monotonic() - began < 5


def test_a_preference_that_makes_no_sense_is_passed_over(shopper: Shopper) -> None:
    answer = shopper.command("shop.product.create", MOUSE, prefer="wait=soon, sugar")
    assert answer.status_code == 201


def test_models_that_another_program_begins_anew_are_not_passed_off_as_current(
    client: Shopper, memory_shop: Shop
) -> None:
    client.product()
    client.current("/products")
    taken = memory_shop.models.checkpoint("product_catalog")
    assert taken is not None
    anew = msgspec.structs.replace(
        taken, generation=taken.generation + 1, position=0, shape="of another program"
    )
    memory_shop.models.commit(taken, anew)

    answer = client.get("/products")
    assert (answer.headers["Shop-Position"], answered(answer)["items"]) == ("0", [])
    late = client.get("/products", shop_min_position="2")
    assert problem(late) == (503, "position-not-reached")
