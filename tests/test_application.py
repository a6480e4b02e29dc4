"""Applications: what they are checked for, and how settings name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import UNSET, Meta, UnsetType
from openapi_spec_validator import validate

import tests.eventsourcing.bank
from shop.application import (
    Answer,
    Application,
    ApplicationError,
    NoQuery,
    Read,
    application_of,
)
from shop.bootstrap import bootstrap, open_event_store
from shop.cli import main
from shop.config import ConfigurationError, Settings
from shop.eventsourcing import (
    Aggregate,
    CommandPayload,
    Module,
    UnitOfWork,
    Workflow,
    WorkflowList,
    aggregate,
    command,
)
from shop.runtime import Shop
from shop.web import create_app
from tests.eventsourcing.bank import BANK, Account, Balance, Balances
from tests.eventsourcing.reminders import MODULES, REMINDERS, Reminders
from tests.real.process import free_port
from tests.servers import ROOT, WAYS, ServerProcess
from tests.web.shopper import Shopper, answered, problem


def get_balance(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """What an account has."""
    found = running.reader(Balances.name).get(Balance, id)
    return Answer(found.value, found.position)


def get_other_balance(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """The same, under another name."""
    return get_balance(running, query, id)


def get_by_number(running: Shop, query: NoQuery, number: str) -> Answer:
    """What the account of a number has."""
    return get_balance(running, query, UUID(int=int(number)))


def get_all(running: Shop, query: NoQuery) -> Answer:
    return Answer(Balance("all", 0))


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


def read(
    path: str,
    answer: Callable[..., Answer] = get_balance,
    *,
    projection: str = Balances.name,
    aggregate: str | None = None,
) -> Read:
    return Read(path=path, answer=answer, shape=Balance, projection=projection, aggregate=aggregate)


@aggregate("bank.account")
class OtherAccount(Aggregate):
    """Of the same name."""


@command("bank.acount.close")
class Close(CommandPayload, frozen=True):
    """Named after no aggregate."""


def close(payload: Close, id: UUID, work: UnitOfWork) -> None: ...


class MisnamedBalances(Balances):
    """Of a name that is the toolkit's."""

    name = "workflows"


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


LISTED = (Balances(), WorkflowList())


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"modules": MODULES, "workflows": [Reminders()]}, r"WorkflowList\(\) must be among the"),
        (
            {"modules": [BANK], "projections": LISTED, "workflows": [Reminders()]},
            r"bank\.reminder is a workflow, and no module has Reminder, the aggregate of its",
        ),
        (
            {"modules": [REMINDERS], "projections": LISTED, "workflows": [Reminders()]},
            r"(?s)balances follows bank\.account\.deposited, and no module .*"
            r"bank\.reminder follows bank\.account\.deposited, and no module has an aggregate",
        ),
        ({"modules": [BANK], "projections": [Balances]}, "has the class Balances, which is no Pro"),
        ({"modules": MODULES, "workflows": [Reminders]}, "has the class Reminders, which is no W"),
        ({"modules": MODULES, "workflows": [Workflow()]}, "Workflow has no class of instances"),
        ({"modules": [tests.eventsourcing.bank]}, r"modules has <module .*>, which is no Module"),
        ({"modules": [BANK], "reads": [get_balance]}, r"reads has <function .*>, which is no Read"),
        ({"modules": [BANK], "projections": [Balances(), Balances()]}, "2 projections balances"),
        (
            {"modules": MODULES, "projections": LISTED, "workflows": [Reminders(), Reminders()]},
            r"there are 2 workflows bank\.reminder",
        ),
        (
            {"modules": [BANK, Module(aggregates=(OtherAccount,))]},
            r"bank\.account is the name of Account and of OtherAccount",
        ),
        (
            {"modules": [BANK, Module(handlers={Close: close})]},
            r"bank\.acount\.close is no name for a command",
        ),
        (
            {"modules": [BANK], "reads": [read("/balances/<id>")]},
            r"/balances/<id> answers from balances, .* no such projection \(known: none\)",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/balances/<id>", projection="balance")],
            },
            r"answers from balance, and there is no such projection \(near: balances\)",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/balances/<id>", aggregate="bank.acount")],
            },
            r"shows bank\.acount, and no module has such an aggregate \(near: bank\.account\)",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/a/<id>"), read("/a/<number>", get_by_number)],
            },
            "2 reads of the path /a/<>",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [
                    read("/a/<id>", aggregate=Account.kind),
                    read("/b/<id>", get_other_balance, aggregate=Account.kind),
                ],
            },
            r"2 reads of the aggregate bank\.account",
        ),
        (
            {"modules": [BANK], "projections": [MisnamedBalances()]},
            "workflows is the name of WorkflowList, and of no other projection",
        ),
        (
            {
                "modules": [BANK],
                "projections": [Balances()],
                "reads": [read("/a/<id>"), read("/b/<id>")],
            },
            "2 reads by the function get_balance",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(ApplicationError, match=told):
        Application(**parts)


def test_the_parts_of_an_application_may_come_from_anywhere_but_must_be_several() -> None:
    application = Application(module for module in [BANK])  # type: ignore[arg-type]
    assert application.modules == (BANK,)
    with pytest.raises(ApplicationError, match=r"modules is a list, not Module\("):
        Application(BANK)  # type: ignore[arg-type]


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ApplicationError) as caught:
        Application(
            [REMINDERS], [Balances(), Balances()], [Reminders()], [read("/a/<id>", aggregate="x")]
        )
    assert len(caught.value.mistakes) > 3


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("balances/<id>", "balances/<id> is no path of a read, such as"),
        ("/", "/ is no path"),
        ("/balances/", "/balances/ is no path"),
        ("/balances/<int:id>", "/balances/<int:id> is no path"),
        ("/balances/<id", "/balances/<id is no path"),
        ("/<id>", "/<id> is no path"),
        ("/a/<id>/of/<id>", "has two parts of one name"),
        (
            "/balances/<id>/<query>",
            r"get_balance is to be called with \(shop, query, id, query\), and takes",
        ),
        (
            "/balances",
            r"get_balance is to be called with \(shop, query\), and takes \(running, query, id\)",
        ),
        ("/balances/<number>", r"is to be called with \(shop, query, number\), and takes"),
    ],
)
def test_a_read_has_a_path_and_a_function_that_takes_its_parts(path: str, told: str) -> None:
    with pytest.raises(ApplicationError, match=told):
        read(path)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"shape": object}, "/balances: shape <class 'object'>"),
        ({"query": int}, "/balances: query is a struct class, not <class 'int'>"),
        ({"query": NoQuery()}, "/balances: query NoQuery"),
        ({"answer": partial(get_all)}, "is no function with a name"),
    ],
)
def test_a_read_that_could_not_be_documented_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ApplicationError, match=told):
        Read(**{"path": "/balances", "answer": get_all, "shape": Balance, **fields})


@pytest.mark.parametrize("path", ["/balances", "/balances/<number>", "/banks/<bank>/<id>"])
def test_a_read_that_shows_an_aggregate_does_so_by_its_id(path: str) -> None:
    with pytest.raises(ApplicationError, match="by <id>"):
        read(path, aggregate=Account.kind)


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


class TestServing:
    def test_without_docstrings_names_describe(self) -> None:
        with served(read("/balances", get_all)) as shopper:
            paths = answered(shopper.get("/openapi.json"))["paths"]
        assert paths["/balances"]["get"]["summary"] == "get_all"
        deposit = "bank.account.deposit"
        assert paths[f"/commands/{deposit}/{{id}}"]["post"]["summary"] == deposit

    def test_a_document_may_have_components_of_one_name(self) -> None:
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
    def test_a_type_says_itself_what_is_wrong_wherever_it_is(self, payload: object) -> None:
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
    def test_a_query_may_have_lists_and_rules(self, query: str, found: object) -> None:
        with served(Read(path="/sum", answer=add, shape=list, query=SumQuery)) as shopper:
            answer = shopper.get(f"/sum?{query}")
        if isinstance(found, list):
            assert answer.json == found
        else:
            assert problem(answer) == (400, "query-invalid")
            assert str(found) in answer.text

    def test_what_was_created_is_found_where_the_read_shows_it(self) -> None:
        with served(read("/balances/<id>", aggregate=Account.kind)) as shopper:
            opened = shopper.command("bank.account.open", {"owner": "Ada"})
            path, position = opened.headers["Location"], opened.headers["Shop-Position"]
            shown = shopper.get(path, shop_min_position=position, prefer="wait=5")
        assert path.startswith("/balances/")
        assert shown.json == {"owner": "Ada", "balance": 0, "bookings": 0}

    def test_an_answer_without_a_position_stands_where_its_projection_was(self) -> None:
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
        self, answer: Callable[..., Answer], told: str, caplog: pytest.LogCaptureFixture
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
    def test_an_answer_may_be_all_that_gives_the_json_of_its_shape(
        self, shape: Any, value: object
    ) -> None:
        def get_it(running: Shop, query: NoQuery) -> Answer:
            """Something."""
            return Answer(value)

        with served(Read(path="/it", answer=get_it, shape=shape)) as shopper:
            assert shopper.get("/it").status_code == 200

    def test_a_reader_of_no_projection_is_told(self) -> None:
        with served() as shopper, bootstrap(Settings(event_store="memory://")) as shop:
            assert shopper.get("/stats").status_code == 404
            with pytest.raises(LookupError, match=r"no projection 'catalog'; known: product_cat"):
                shop.reader("catalog")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which Python looks for modules."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


BANKING = """
from shop.application import Application
from tests.eventsourcing.bank import BANK

APPLICATION = Application([BANK], title="Bank")

def application(settings):
    return Application([BANK], title=f"Bank in {settings.event_store}")

def forgetful(settings):
    Application([BANK])
"""


@pytest.mark.parametrize(
    ("name", "title"), [("APPLICATION", "Bank"), ("application", "Bank in memory://")]
)
def test_settings_name_an_application_or_what_makes_one(name: str, title: str, place: Path) -> None:
    (place / "banks").mkdir(exist_ok=True)
    (place / "banks" / "mine.py").write_text(BANKING)
    settings = Settings.from_env(
        {"SHOP_APPLICATION": f"banks.mine:{name}", "SHOP_EVENT_STORE": "memory://"}
    )
    with bootstrap(settings) as running:
        assert running.application.title == title
        assert "bank.account.open" in running.commands.registry


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_bank:APPLICATION", "there is no module no_bank, neither installed nor in /"),
        ("no_bank.of_mine:APPLICATION", "there is no module no_bank, neither"),
        ("wrong_bank.mine:APPLICATION", r"there is no module wrong_bank\.mine, neither"),
        ("wrong_bank:MISSING", "the module wrong_bank has no MISSING"),
        ("wrong_bank:BANK", "wrong_bank:BANK is no Application but a Module"),
        ("wrong_bank:forgetful", "wrong_bank:forgetful makes no Application but a NoneType"),
    ],
)
def test_what_is_no_application_is_told(name: str, told: str, place: Path) -> None:
    (place / "wrong_bank.py").write_text(BANKING)
    settings = Settings.from_env({"SHOP_APPLICATION": name})
    with pytest.raises(ConfigurationError, match=f"SHOP_APPLICATION: {told}"):
        application_of(settings)


@pytest.mark.parametrize(
    ("name", "module", "told"),
    [
        ("lacking", "import no_such_library", "ModuleNotFoundError: No module named 'no_such_lib"),
        ("misspelt", "def f(:", "SyntaxError: invalid syntax"),
        ("empty", "APPLICATION = [][0]", "IndexError: list index out of range"),
        (
            "strict",
            "def APPLICATION(): ...",
            "TypeError: APPLICATION() takes 0 positional arguments but 1",
        ),
        ("unfit", BANKING + "APPLICATION = Application([BANK, BANK, 1])", "modules has 1, which"),
    ],
)
def test_a_module_that_fails_is_shown_from_its_own_line_on(
    name: str, module: str, told: str, place: Path
) -> None:
    (place / f"{name}_bank.py").write_text(module)
    with pytest.raises(ConfigurationError) as caught:
        application_of(Settings(application=f"{name}_bank:APPLICATION"))
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  SHOP_APPLICATION: {name}_bank:APPLICATION cannot be used:"
    assert told in lines[-1]
    files = [line for line in lines if line.startswith("  File ")]
    assert all(f"{name}_bank.py" in first for first in files[:1])


def test_what_an_application_says_of_its_configuration_is_told_as_it_is(place: Path) -> None:
    (place / "choosy_bank.py").write_text(
        "from shop.config import ConfigurationError\n"
        "def application(settings): raise ConfigurationError(['BANK_HOURS: it is no number'])\n"
    )
    with pytest.raises(ConfigurationError, match=r"bad configuration:\n  BANK_HOURS: it is no num"):
        application_of(Settings(application="choosy_bank:application"))


def test_the_command_line_tells_what_could_not_be_served(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "hiding_bank.py").write_text(
        "from shop.application import Application\n"
        "from tests.test_application import BANK, Balances, read\n"
        "APPLICATION = Application([BANK], [Balances()], reads=[read('/events/<id>')])\n"
    )
    with pytest.raises(SystemExit, match="2"):
        main(["config"], {"SHOP_APPLICATION": "hiding_bank:APPLICATION"})
    told = capsys.readouterr()
    assert "/events/<id>: every application has a /events" in told.err
    assert told.out == ""


@pytest.mark.parametrize("line", ["workflows", "workflows retry --all"])
def test_an_application_without_workflows_has_none_to_list(
    line: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "idle_bank.py").write_text(BANKING)
    url = f"sqlite:///{place / 'bank.db'}"
    open_event_store(url, Application([BANK]).registry).close()
    environ = {"SHOP_APPLICATION": "idle_bank:APPLICATION", "SHOP_EVENT_STORE": url}
    with pytest.raises(SystemExit, match="2"):
        main(line.split(), environ)
    assert "the application has no workflows" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["waitress-serve", "python -m shop serve"])
def test_a_broken_application_does_not_start(way: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("APPLICATION = 1 / 0\n")
    (tmp_path / "wsgi.py").write_text((ROOT / "wsgi.py").read_text())
    port = free_port()
    settings = {"SHOP_APPLICATION": "broken:APPLICATION", "SHOP_EVENT_STORE": "sqlite:///x.db"}
    with ServerProcess(WAYS[way](f"127.0.0.1:{port}"), port, tmp_path, **settings) as server:
        assert server.await_exit() == 2
        assert 'broken.py", line 1' in server.log
        assert server.log.endswith("ZeroDivisionError: division by zero\n")
        assert "usage" not in server.log.lower()
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize("name", ["notes", "notes:", ":APPLICATION", "notes.py:a.b", "a..b:c", ""])
def test_an_application_is_named_by_module_and_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"SHOP_APPLICATION: it is no module:name"):
        Settings.from_env({"SHOP_APPLICATION": name})
