"""Applications as settings name them, and what is told of those that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop.application import Application, application_of
from shop.bootstrap import bootstrap, open_event_store
from shop.cli import main
from shop.config import ConfigurationError, Settings
from tests.eventsourcing.bank import BANK
from tests.real.process import free_port
from tests.servers import ROOT, WAYS, ServerProcess


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
    first = next((line for line in lines if line.startswith("  File ")), None)
    if name == "strict":  # the call is not theirs
        assert first is None
    else:
        assert first is not None
        assert f"{name}_bank.py" in first


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
        "from tests.application.bank_reads import read\n"
        "from tests.eventsourcing.bank import BANK, Balances\n"
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
