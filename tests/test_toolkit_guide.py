"""The guide to the toolkit is one program: it is run, checked, and prints what the guide says."""

from __future__ import annotations

import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.real.process import free_port
from tests.servers import ROOT, WAYS, ServerProcess, run
from tests.waiting import await_true

GUIDE, _, EVOLVING = (
    (ROOT / "docs/toolkit.md").read_text(encoding="utf-8").partition("\n## When an event changes\n")
)


def blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """What the guide shows, in a file of its own outside the project."""
    path = tmp_path / "notes.py"
    path.write_text('"""Notes."""\n\n' + "\n\n".join(blocks(GUIDE)))
    return path


@pytest.fixture
def service(program: Path) -> Path:
    """The application of the guide, beside its program."""
    path = program.with_name("service.py")
    path.write_text(blocks(GUIDE, "py")[1])
    return path


@pytest.fixture
def tested(program: Path) -> Path:
    """Its test, beside it."""
    path = program.with_name("test_expiry.py")
    path.write_text(blocks(GUIDE, "py")[0])
    return path


@pytest.fixture
def evolved(program: Path) -> Path:
    """The program, changed as the guide tells to once it has run; and the test, beside it."""
    run(sys.executable, program, directory=program.parent)
    event, test = blocks(EVOLVING)
    text = program.read_text()
    for pattern, replacement in (
        (r'@event\("demo\.note\.written"\)\n.*?\n(?=\n\n@)', event),
        (r"from uuid import", r"from typing import Any\n\g<0>"),
        (r"NoteWritten\(text\)", 'NoteWritten(text, "en")'),
        (r"data\.text", "data.words"),
    ):
        text, count = re.subn(pattern, replacement, text, flags=re.DOTALL)
        assert count
    program.write_text(text)
    (program.parent / "test_notes.py").write_text('"""Notes of before."""\n\n' + test)
    return program


def test_the_program_prints_what_the_guide_says(program: Path) -> None:
    [shown] = re.findall(r"it prints\n\n```\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert run(sys.executable, "-W", "error", program, directory=program.parent) == shown


def test_it_runs_on_the_stores_of_the_shop_as_the_guide_says(service: Path) -> None:
    *_, running, over_http = blocks(GUIDE, "py")
    for program, printed in ((running, "bread\n"), (over_http, "1\n")):
        assert (
            run(sys.executable, "-W", "error", "-c", program, directory=service.parent) == printed
        )


def test_its_test_passes(tested: Path) -> None:
    assert "1 passed" in run(sys.executable, "-m", "pytest", tested.name, directory=tested.parent)


@pytest.mark.parametrize("way", ["waitress-serve", "python -m shop serve"])
def test_it_is_served_as_the_guide_says(way: str, service: Path) -> None:
    port = free_port()
    exported, sent = blocks(GUIDE, "sh")
    variables = dict(re.findall(r"(SHOP_\w+)=(\S+)", exported))
    [body] = re.findall(r"--json '(.*?)'", sent)
    (service.parent / "wsgi.py").write_text((ROOT / "wsgi.py").read_text())
    command = WAYS[way](f"127.0.0.1:{port}")
    with ServerProcess(command, port, service.parent, **variables) as server:
        server.await_ready()
        path = "/commands/demo.note.write"
        written = server.request("POST", path, json.loads(body), prefer="wait=2")
        note = written.headers["Location"]
        id = note.rpartition("/")[2]
        expired = {"id": id, "text": "expired", "times": 2}
        await_true(lambda: server.request("GET", note).json() == expired)
        completed = "/workflows?status=completed"
        await_true(lambda: len(server.request("GET", completed).json()["items"]) == 1)
        assert server.request("GET", "/notes?text=bread").json() == {"items": [], "next": None}
        assert server.request("GET", "/notes?text=expired").json()["items"] == [expired]
        document = server.request("GET", "/openapi.json").json()
        products = server.request("GET", "/products")
        verified = run(
            sys.executable, "-m", "shop", "verify", directory=service.parent, **variables
        )
    assert written.status == 201
    assert document["info"]["title"] == "Notes"
    assert {"/notes/{id}", "/commands/demo.note.write"} < set(document["paths"])
    assert products.status == 404
    assert verified.count("agrees with the log") == 2


def test_it_uses_nothing_of_the_shop(program: Path) -> None:
    script = (
        "import sys, notes; notes.main();"
        "print(*{'.'.join(name.split('.')[:2]) for name in sys.modules if name[:5] == 'shop.'})"
    )
    printed = run(sys.executable, "-c", script, directory=program.parent).splitlines()
    assert set(printed[-1].split()) == {"shop.eventsourcing", "shop.backends"}


def test_an_event_evolves_as_the_guide_says(evolved: Path) -> None:
    script = """
from pathlib import Path
from notes import EXPIRY, NOTES, NoteWritten, Database, Registry, SqliteEventStore
registry = Registry((*NOTES.events, *EXPIRY.events))
for event in SqliteEventStore(Database(Path("notes.db")), registry).read():
    if isinstance(event.data, NoteWritten):
        print(event.data.words, event.data.language, sep=', ')
"""
    run(sys.executable, evolved, directory=evolved.parent)  # it writes two notes more, and ends one
    printed = run(sys.executable, "-c", script, directory=evolved.parent).splitlines()
    once = [f"{text}, en" for text in ("milk", "milk and honey", "expired")]
    assert printed == once * 2
    tested = run(sys.executable, "-m", "pytest", "test_notes.py", directory=evolved.parent)
    assert "1 passed" in tested


@pytest.mark.parametrize("name", ["program", "tested", "service", "evolved"])
def test_the_program_passes_the_linters(name: str, request: pytest.FixtureRequest) -> None:
    program: Path = request.getfixturevalue(name)
    files = [*program.parent.glob("*.py")]
    rules = ("--config", str(ROOT / "pyproject.toml"), "--no-cache", "--ignore", "T201")
    run(sys.executable, "-m", "ruff", "check", *rules, *files, directory=ROOT)
    run(sys.executable, "-m", "ruff", "format", "--check", *rules[:3], *files, directory=ROOT)
    settings = ("--config-file", str(ROOT / "setup.cfg"))
    run(sys.executable, "-m", "mypy", *settings, *files, directory=ROOT, MYPYPATH=str(ROOT))


def test_an_installation_has_every_file() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    patterns = settings["options.package_data"]["*"].split(", ")
    packages = [init.parent for init in (ROOT / "shop").rglob("__init__.py")]
    installed = {path for package in packages for path in package.glob("*.py")}
    installed |= {path for package in packages for p in patterns for path in package.glob(p)}
    files = {
        path for path in (ROOT / "shop").rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert files == installed
