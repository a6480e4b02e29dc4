"""What the README shows is run, in its order, and comes to what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from shop.bootstrap import PROJECTIONS
from shop.config import Settings
from tests.real.process import free_port
from tests.servers import ROOT, ServerProcess, environment, run

README = (ROOT / "README.md").read_text(encoding="utf-8")

# Has curl tell which answer ended, and how, after each.
CURL = r"""
curl() { command curl -sS --write-out '\n<<< %{http_code} %{method} %{url}\n' "$@"; }
"""
ANSWER = re.compile(r"\n<<< (\d+) (\w+) http://[^/]+(\S+)\n")


class Answer(NamedTuple):
    status: int
    request: str
    """Method and path, ids left out."""
    headers: dict[str, str]
    """Where ``curl -i`` asks for them; names in lower case."""
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


class WorkingCopy:
    """A copy of the project to run and to change. Its environment is that of the tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(ROOT / "shop", directory / "shop", ignore=shutil.ignore_patterns("*.pyc"))
        for name in ("Makefile", "pyproject.toml", "requirements.txt", "setup.cfg", "wsgi.py"):
            shutil.copy2(ROOT / name, directory)
        venv = directory / ".venv"
        venv.mkdir()
        for part in Path(sys.prefix).iterdir():
            if part.name != "installed":
                (venv / part.name).symlink_to(part)
        (venv / "installed").touch()

    @property
    def variables(self) -> dict[str, str]:
        path = f"{self.directory / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return environment(PYTHONPATH=str(self.directory), PATH=path)

    def serve(self) -> ServerProcess:
        """``make run``; its end is the caller's."""
        port = free_port()
        command = ["make", "run", f"LISTEN=127.0.0.1:{port}"]
        return ServerProcess(command, port, self.directory, **self.variables)

    def run(self, *command: str) -> str:
        """What a command prints that must succeed."""
        return run(*command, directory=self.directory, **self.variables)


class Walk(NamedTuple):
    """What came of the README's commands."""

    answers: list[Answer]
    printed: str
    """By the last commands, which are those of the command line."""
    server: ServerProcess
    """Started anew after the first was killed."""

    def answer(self, request: str, nth: int = 0) -> Answer:
        return [answer for answer in self.answers if answer.request == request][nth]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    copy = WorkingCopy(tmp_path_factory.mktemp("copy"))
    with ExitStack() as running:
        first = running.enter_context(copy.serve()).await_ready()
        script = "\n".join(["set -euo pipefail", CURL, *blocks("sh")])
        script = script.replace("127.0.0.1:8080", f"127.0.0.1:{first.port}")
        *outputs, printed = ANSWER.split(copy.run("bash", "-c", script))
        first.signal(signal.SIGKILL)
        first.await_exit()
        second = running.enter_context(copy.serve()).await_ready()
        answers = [answered(*outputs[i : i + 4]) for i in range(0, len(outputs), 4)]
        yield Walk(answers, printed, second)


def answered(output: str, status: str, method: str, path: str) -> Answer:
    headers = {}
    if output.startswith("HTTP/"):
        head, _, output = output.replace("\r", "").partition("\n\n")
        lines = (line.split(": ", 1) for line in head.splitlines()[1:])
        headers = {name.lower(): value for name, value in lines}
    path = re.sub(r"/[0-9a-f-]{36}", "/<id>", path)
    return Answer(int(status), f"{method} {path}", headers, output)


def test_every_request_is_answered_as_it_says(walk: Walk) -> None:
    assert [(answer.status, answer.request) for answer in walk.answers] == [
        (201, "POST /commands/shop.product.create/<id>"),
        (200, "POST /commands/shop.pricing.add_discount/<id>"),
        (201, "POST /commands/shop.customer.register/<id>"),
        (201, "POST /commands/shop.order.place/<id>"),
        (200, "POST /commands/shop.order.pay/<id>"),
        (200, "GET /orders/<id>"),
        (200, "GET /products/<id>"),
        (200, "GET /customers/<id>/orders"),
        (200, "GET /stats"),
        (200, "GET /workflows?status=completed"),
        (200, "GET /events?after=0&limit=10"),
        (200, "GET /streams/shop.order/<id>"),
        (200, "GET /events?after=9"),
        (200, "POST /commands/shop.product.adjust_stock/<id>"),
        (200, "POST /commands/shop.product.adjust_stock/<id>"),
        (412, "POST /commands/shop.product.rename/<id>"),
        (200, "POST /commands"),
        (422, "POST /commands/shop.product.create"),
    ]
    assert all(answer.body.strip() for answer in walk.answers)


def test_the_first_answer_looks_as_it_is_shown(walk: Walk) -> None:
    [shown] = re.findall(r"^```\n(HTTP/1.1 201 .*?)^```$", README, re.MULTILINE | re.DOTALL)
    example, answer = answered(shown, "201", "POST", "/"), walk.answers[0]
    assert example.headers.pop("location").startswith("/products/")
    assert answer.headers.pop("location") == f"/products/{answer.json()['aggregate_id']}"
    assert example.headers.items() <= answer.headers.items()
    assert without_ids(answer.json()) == without_ids(example.json())


def test_the_read_models_show_what_was_done(walk: Walk) -> None:
    order = walk.answer("GET /orders/<id>").json()
    assert (order["status"], order["total"], order["customer_name"]) == ("paid", 5398, "Ada")
    product = walk.answer("GET /products/<id>").json()
    assert (product["current_price"], product["stock"]) == (2699, 48)
    assert walk.answer("GET /customers/<id>/orders").json()["orders"] == [order]
    stats = walk.answer("GET /stats").json()
    assert (stats["total_orders"], stats["total_revenue"]) == (1, 5398)


def test_the_log_shows_what_happened_in_order(walk: Walk) -> None:
    events = walk.answer("GET /events?after=0&limit=10").json()["items"]
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    history = walk.answer("GET /streams/shop.order/<id>").json()["items"]
    assert [event["name"] for event in history] == ["shop.order.placed", "shop.order.paid"]


def test_a_repeated_command_is_answered_as_the_first_time(walk: Walk) -> None:
    request = "POST /commands/shop.product.adjust_stock/<id>"
    first, second = walk.answer(request), walk.answer(request, 1)
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"


def test_a_bulk_has_a_result_for_each_line(walk: Walk) -> None:
    results = walk.answer("POST /commands").body.splitlines()
    assert [json.loads(result)["status"] for result in results] == [201, 201, 201]


def test_a_problem_points_at_each_bad_field(walk: Walk) -> None:
    problem = walk.answer("POST /commands/shop.product.create").json()
    assert problem["type"] == "urn:shop:problem:payload-invalid"
    assert {error["pointer"] for error in problem["errors"]} == {"/name", "/price", "/stock"}


def test_the_command_line_prints_what_it_says(walk: Walk) -> None:
    lines = walk.printed.splitlines()
    assert "SHOP_EVENT_STORE=sqlite:///shop.db" in lines
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [event["position"] for event in events] == [1, 2]
    assert sum("agrees with the log" in line for line in lines) == len(PROJECTIONS)
    assert any(line.startswith("product_catalog: built anew") for line in lines)
    assert lines.count("verify: the target holds the same, and nothing else") == 2


def test_another_price_than_the_current_one_is_refused(walk: Walk) -> None:
    order = walk.answer("GET /orders/<id>").json()
    item = {"product_id": order["items"][0]["product_id"], "quantity": 1, "price": 2698}
    wanted = {"customer_id": order["customer_id"], "items": [item]}
    refusal = walk.server.request("POST", "/commands/shop.order.place", wanted)
    assert refusal.status == 409
    assert refusal.json()["type"] == "urn:shop:problem:price-changed"


def test_everything_is_where_it_was_after_a_kill(walk: Walk) -> None:
    order = walk.answer("GET /orders/<id>").json()
    found = walk.server.request("GET", f"/orders/{order['order_id']}")
    assert found.json() == order


def test_the_environment_is_not_made_again_by_each_run(walk: Walk) -> None:
    assert "waitress-serve" in walk.server.log
    assert "pip install" not in walk.server.log


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> WorkingCopy:
    """The project with the README's own aggregate, added as the README says."""
    copy = WorkingCopy(tmp_path_factory.mktemp("extended"))
    note, test, _ = blocks("python")
    (copy.directory / "shop/domain/note.py").write_text(note)
    (copy.directory / "tests/domain").mkdir(parents=True)
    (copy.directory / "tests/domain/test_note.py").write_text(test)
    bootstrap = copy.directory / "shop/bootstrap.py"
    if "note.MODULE" not in bootstrap.read_text():  # where the reader has added it already
        edit(bootstrap, "import customer, email, ", "\\g<0>note, ")
        edit(bootstrap, "MODULES: tuple[Module, ...] = (\n", "\\g<0>    note.MODULE,\n")
    return copy


def test_an_aggregate_of_ones_own_passes_its_test(extended: WorkingCopy) -> None:
    assert "1 passed" in extended.run("python", "-m", "pytest", "tests/domain/test_note.py")


def test_an_aggregate_of_ones_own_passes_the_linters(extended: WorkingCopy) -> None:
    added = ("shop/domain/note.py", "tests/domain/test_note.py")
    extended.run("ruff", "check", *added, "shop/bootstrap.py")
    extended.run("ruff", "format", "--check", *added, "shop/bootstrap.py")
    extended.run("mypy", *added)
    extended.run("lint-imports")


def test_an_aggregate_of_ones_own_is_on_http_as_soon_as_it_is_added(extended: WorkingCopy) -> None:
    id = uuid4()
    with extended.serve() as server:
        server.await_ready()
        written = server.request("POST", f"/commands/demo.note.write/{id}", {"text": "milk"})
        stream = server.request("GET", f"/streams/demo.note/{id}").json()["items"]
        paths = server.request("GET", "/openapi.json").json()["paths"]
        page = server.request("GET", "/docs").body.decode()
    assert written.status == 201
    assert [event["data"] for event in stream] == [{"text": "milk"}]
    assert any(path.startswith("/commands/demo.note.write") for path in paths)
    assert "demo.note.write" in page


def test_the_toolkit_works_without_the_shop(extended: WorkingCopy) -> None:
    _, _, program = blocks("python")
    assert extended.run("python", "-c", program) == "1 demo.note.written hi\n"


def test_every_file_that_is_named_is_there() -> None:
    links = re.findall(r"\]\((?!https?:|/)([^)]+)\)", README)
    paths = re.findall(r"`([a-z][\w.-]*/[\w./-]*|[\w-]+\.(?:py|txt|yml))`", README)
    assert {"docs/deployment.md"} < set(links)
    assert {"wsgi.py", "shop/bootstrap.py", "docs/decisions.md"} < set(paths)
    to_be_written = {"shop/domain/note.py", "tests/domain/test_note.py"}
    assert to_be_written < set(paths)
    missing = {name for name in links + paths if not (ROOT / name.partition("#")[0]).exists()}
    assert missing <= to_be_written


def test_every_section_that_is_linked_is_there() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = {document: document.read_text(encoding="utf-8") for document in documents}
    sections = {
        (document, heading.lower().replace(" ", "-"))
        for document, text in texts.items()
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = {
        (document.parent / file if file else document, anchor)
        for document, text in texts.items()
        for file, anchor in re.findall(r"\]\(((?:[\w/]+\.md)?)#([\w-]+)\)", text)
    }
    assert links
    assert links <= sections


def test_every_setting_is_described_with_its_default() -> None:
    rows = re.findall(r"^\| `(SHOP_\w+)` \| (.*?) \|", README, re.MULTILINE)
    described = {name: default.strip("`") for name, default in rows}
    settings = Settings.from_env({})
    actual = {
        f"SHOP_{name.upper()}": getattr(settings, name) for name in settings.__struct_fields__
    }
    assert described.pop("SHOP_MODEL_STORE") == "the event store"
    assert actual.pop("SHOP_MODEL_STORE") == actual["SHOP_EVENT_STORE"]
    assert {name: type(actual[name])(value) for name, value in described.items()} == actual


def without_ids(result: dict[str, Any]) -> dict[str, Any]:
    events = [{**event, "id": ""} for event in result["events"]]
    return {**result, "command_id": "", "aggregate_id": "", "events": events}


def edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace what is there exactly once."""
    text, count = re.subn(re.escape(pattern), replacement, path.read_text())
    assert count == 1
    path.write_text(text)
