"""Another application than the shop, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import UNSET, Meta, UnsetType
from openapi_spec_validator import validate

from shop.application import Answer, Application, ApplicationError, NoQuery, Read
from shop.bootstrap import bootstrap
from shop.config import Settings
from shop.eventsourcing import Aggregate, CommandPayload, Module, UnitOfWork, aggregate, command
from shop.runtime import Shop
from shop.web import create_app
from shop.web.errors import Problem
from tests.application.bank_reads import get_all, get_balance, get_by_number, read
from tests.eventsourcing.bank import BANK, Account, Balance, Balances
from tests.web.shopper import Shopper, answered, problem


def list_events(running: Shop, query: NoQuery) -> Answer:
    """Of a name that is taken."""
    return get_all(running, query)


def get_nothing(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """What somebody forgot to return."""
    return None  # type: ignore[return-value]  # which is the mistake


def get_result(running: Shop, query: NoQuery) -> Answer:
    """Something."""
    return Answer(Result(found=True))


def get_part(running: Shop, query: Part) -> Answer:
    """Something else."""
    return Answer(query)


def get_reading(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """The reading instead of its value."""
    return Answer(running.reader(Balances.name).get(Balance, id))


class Result(msgspec.Struct, frozen=True):
    """Of the name of another component of the document."""

    found: bool


class Part(msgspec.Struct, frozen=True):
    """Something of a query, and of an answer."""

    name: str


class Labelled(msgspec.Struct, frozen=True):
    """Something with a code, and perhaps something in it."""

    code: Annotated[str, Meta(pattern="^[A-Z]{2}$", extra={"misfit": "This is no code"})]
    inner: Labelled | None = None


@aggregate("demo.coded")
class Coded(Aggregate):
    """Has nothing."""


@command("demo.coded.code", creates=True)
class Code(CommandPayload, frozen=True):
    """Give it codes."""

    made: Labelled
    others: list[Labelled] = []


def encode(payload: Code, id: UUID, work: UnitOfWork) -> None: ...


class SumQuery(msgspec.Struct, frozen=True, rename="camel"):
    """Which numbers."""

    of_these: list[int]
    but_not: Annotated[tuple[int, ...], Meta(description="Left out")] | UnsetType = UNSET
    at_most: int = 100

    def __post_init__(self) -> None:
        if sum(self.of_these) > self.at_most:
            raise ValueError("it is more than atMost")


def add(running: Shop, query: SumQuery) -> Answer:
    """Numbers."""
    return Answer([*query.of_these, query.but_not or 0])


@contextmanager
def served(*reads: Read) -> Iterator[Shopper]:
    application = Application([BANK], [Balances()], reads=reads)
    with bootstrap(Settings(event_store="memory://"), application=application) as running:
        yield Shopper(create_app(running))


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        ("/events/<id>", get_balance, "/events/<id>: every application has a /events, name"),
        ("/events/<number>/all", get_by_number, "every application has a /events"),
        ("/commands/bank.account.open", get_all, "every application has a /commands"),
        ("/docs", get_all, "every application has a /docs"),
        ("/balances", list_events, "every application has a read named list_events"),
    ],
)
def test_no_read_hides_what_every_application_has(
    path: str, answer: Callable[..., Answer], told: str
) -> None:
    with pytest.raises(ApplicationError, match=told), served(read(path, answer)):
        pass


def test_without_docstrings_names_describe() -> None:
    with served(read("/balances", get_all)) as shopper:
        paths = answered(shopper.get("/openapi.json"))["paths"]
    assert paths["/balances"]["get"]["summary"] == "get_all"
    deposit = "bank.account.deposit"
    assert paths[f"/commands/{deposit}/{{id}}"]["post"]["summary"] == deposit


def test_a_document_may_have_components_of_one_name() -> None:
    reads = [
        Read(path="/result", answer=get_result, shape=Result),
        Read(path="/part", answer=get_part, shape=Part, query=Part),
    ]
    with served(*reads) as shopper:
        document = answered(shopper.get("/openapi.json"))
        page = shopper.get("/docs")
    validate(document)
    assert page.status_code == 200
    [name, *_] = document["paths"]["/part"]["get"]["parameters"]
    assert (name["name"], name["required"]) == ("name", True)
    schemas = document["components"]["schemas"]
    references = {"/result": "found", "/part": "name"}
    for path, field in references.items():
        shown = document["paths"][path]["get"]["responses"]["200"]["content"]
        [schema] = [content["schema"]["$ref"] for content in shown.values()]
        assert list(schemas[schema.rpartition("/")[2]]["properties"]) == [field]


@pytest.mark.parametrize(
    "payload",
    [
        {"made": {"code": "x"}},
        {"made": {"code": "AB", "inner": {"code": "x"}}},
        {"made": {"code": "AB"}, "others": [{"code": "x"}]},
    ],
)
def test_a_type_says_itself_what_is_wrong_wherever_it_is(payload: object) -> None:
    application = Application([Module(aggregates=(Coded,), handlers={Code: encode})])
    with bootstrap(Settings(event_store="memory://"), application=application) as running:
        refused = Shopper(create_app(running)).command("demo.coded.code", payload)
    assert problem(refused) == (422, "payload-invalid")
    assert [error["detail"] for error in answered(refused)["errors"]] == ["This is no code"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("ofThese=1", [1, 0]),
        ("ofThese=1&ofThese=2&butNot=3&butNot=4", [1, 2, [3, 4]]),
        ("", "This field is required"),
        ("of_these=1", "There is no such field"),
        ("ofThese=a", "Expected a whole number"),
        ("ofThese=1&atMost=2&atMost=3", "This may be given once only"),
        ("ofThese=4&atMost=3", "it is more than atMost"),
    ],
)
def test_a_query_may_have_lists_and_rules(query: str, found: object) -> None:
    with served(Read(path="/sum", answer=add, shape=list, query=SumQuery)) as shopper:
        answer = shopper.get(f"/sum?{query}")
    if isinstance(found, list):
        assert answer.json == found
    else:
        assert problem(answer) == (400, "query-invalid")
        assert str(found) in answer.text


def test_what_was_created_is_found_where_the_read_shows_it() -> None:
    with served(read("/balances/<id>", aggregate=Account.kind)) as shopper:
        opened = shopper.command("bank.account.open", {"owner": "Ada"})
        path, position = opened.headers["Location"], opened.headers["Shop-Position"]
        shown = shopper.get(path, shop_min_position=position, prefer="wait=5")
    assert path.startswith("/balances/")
    assert shown.json == {"owner": "Ada", "balance": 0, "bookings": 0}


def test_an_answer_without_a_position_stands_where_its_projection_was() -> None:
    with served(read("/balances", get_all)) as shopper:
        opened = shopper.command("bank.account.open", {"owner": "Ada"})
        position = opened.headers["Shop-Position"]
        shown = shopper.get("/balances", shop_min_position=position, prefer="wait=5")
    assert (shown.status_code, shown.headers["Shop-Position"]) == (200, position)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (get_nothing, "get_nothing returned no Answer, but a NoneType"),
        (get_reading, "get_reading answered with no Balance, but a Reading"),
    ],
)
def test_what_is_no_answer_is_told_in_the_log(
    answer: Callable[..., Answer], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with served(read("/balances/<id>", answer)) as shopper:
        assert shopper.get(f"/balances/{uuid4()}").status_code == 500
    assert told in caplog.text


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        (Any, 1),
        (float, 3),
        (Part | None, Part("x")),
        (Annotated[list[Part], Meta(min_length=1)], [Part("x")]),
        (list[Part], (Part("x"),)),
        (Part, {"name": "x"}),
        (dict[str, Part], {"x": Part("x")}),
    ],
)
def test_an_answer_may_be_all_that_gives_the_json_of_its_shape(shape: Any, value: object) -> None:
    def get_it(running: Shop, query: NoQuery) -> Answer:
        """Something."""
        return Answer(value)

    with served(Read(path="/it", answer=get_it, shape=shape)) as shopper:
        assert shopper.get("/it").status_code == 200


def test_a_reader_of_no_projection_is_told() -> None:
    with served() as shopper, bootstrap(Settings(event_store="memory://")) as shop:
        assert shopper.get("/stats").status_code == 404
        with pytest.raises(LookupError, match=r"no projection 'catalog'; near: product_cat"):
            shop.reader("catalog")


def test_a_read_may_refuse_what_its_path_says() -> None:
    def get_night(running: Shop, query: NoQuery, night: str) -> Answer:
        """Of a date."""
        raise Problem(400, "night-invalid", f"{night!r} is no date")

    with served(Read(path="/nights/<night>", answer=get_night, shape=Balance)) as shopper:
        refused = shopper.get("/nights/tomorrow")
    assert problem(refused) == (400, "night-invalid")
