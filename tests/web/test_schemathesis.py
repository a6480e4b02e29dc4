"""Requests made up from the shop's own document: each answer is one that the document tells of."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema

from shop.runtime import Shop
from shop.web import create_app
from tests.web.shopper import Shopper, answered

REFUSED = [400, 403, 404, 405, 409, 412, 413, 415, 422]
CHECKS = {
    # To wait in vain for a position is answered with 503, as documented.
    "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503]},
    # What fits the schema may still name what is not there, or be stale.
    "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 404, 409, 412, 503]},
    "negative_data_rejection": {"expected-statuses": REFUSED},
}


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    return Shopper(create_app(shop, long_waits=0))


@pytest.fixture
def described(shopper: Shopper) -> BaseSchema:
    def local(environ: dict[str, Any], start_response: Any) -> Any:
        return shopper.app({**environ, "REMOTE_ADDR": "127.0.0.1"}, start_response)

    config = schemathesis.Config.from_dict({"checks": CHECKS})
    schema = schemathesis.openapi.from_wsgi("/openapi.json", local, config=config)
    # Lines of JSON are beyond what a schema can say; test_batch.py sends some.
    return schema.exclude(operation_id="batch")


# The shop's own threads make ids, for which they use `random`, whatever Hypothesis is at.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ("memory", GenerationMode.POSITIVE),
        ("memory", GenerationMode.NEGATIVE),
        ("web", GenerationMode.POSITIVE),  # what is refused by its form gets to no worker
    ],
    indirect=["settings"],
)
def test_every_answer_is_as_documented(
    shop: Shop, shopper: Shopper, described: BaseSchema, mode: GenerationMode
) -> None:
    known = known_ids(shop, shopper)
    if mode is GenerationMode.NEGATIVE:
        described = described.exclude(tag="monitoring")  # it takes nothing that could be wrong
    for operation in described.get_all_operations():
        assert isinstance(operation, Ok)

        @given(case=operation.ok().as_strategy(generation_mode=mode))
        @settings(
            max_examples=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Case[Any]) -> None:
            if mode is GenerationMode.POSITIVE:
                assume(not has_integral_float(case.body))
                # Those that were not handed out by the shop, or were used before, are refused.
                case.query.pop("cursor", None)
                case.headers.pop("Idempotency-Key", None)
                if "id" in case.path_parameters:
                    case.path_parameters["id"] = known[case.path]
                if "aggregate" in case.path_parameters:
                    case.path_parameters["aggregate"] = "shop.product"
            case.call_and_validate()

        check()


def known_ids(shop: Shop, shopper: Shopper) -> dict[str, str]:
    """For each path with an id one that leads somewhere, or for kinds not made here a new one."""
    product, customer = shopper.product(), shopper.customer()
    order = shopper.order(customer, product)
    made = {
        "shop.product": product,
        "shop.pricing": product,
        "shop.customer": customer,
        "shop.order": order,
    }
    return {
        **{
            f"/commands/{cls.wire.name}/{{id}}": made.get(cls.aggregate, str(uuid4()))
            for cls in shop.commands.registry
        },
        "/products/{id}": product,
        "/orders/{id}": order,
        "/customers/{id}": customer,
        "/customers/{id}/orders": customer,
        "/events/{id}": answered(shopper.get("/events"))["items"][0]["id"],
        "/streams/{aggregate}/{id}": product,
    }


def has_integral_float(value: object) -> bool:
    """Whether a number is written as ``1.0``: for JSON Schema an integer, for the shop none."""
    if isinstance(value, dict):
        return any(map(has_integral_float, value.values()))
    if isinstance(value, list):
        return any(map(has_integral_float, value))
    return isinstance(value, float)
