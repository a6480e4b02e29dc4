"""Applications: what they are checked for, and how settings name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from shop.application import Answer, Application, NoQuery, Read
from shop.bootstrap import application_of, bootstrap
from shop.config import ConfigurationError, Settings
from shop.runtime import Shop
from shop.web import create_app
from tests.eventsourcing.bank import BANK, Account, Balance, Balances
from tests.eventsourcing.reminders import MODULES, Reminders


def get_balance(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """What an account has."""
    found = running.reader(Balances.name).get(Balance, id)
    return Answer(found.value, found.position)


def get_other_balance(running: Shop, query: NoQuery, id: UUID) -> Answer:
    """The same, under another name."""
    return get_balance(running, query, id)


def read(
    path: str, answer: Callable[..., Answer] = get_balance, projection: str = Balances.name
) -> Read:
    return Read(path=path, answer=answer, shape=Balance, projection=projection)


def test_workflows_need_their_list() -> None:
    with pytest.raises(ValueError, match=r"WorkflowList\(\) must be among the projections"):
        Application(MODULES, [Balances()], [Reminders()])


def test_a_read_answers_from_a_projection_of_the_application() -> None:
    with pytest.raises(ValueError, match=r"/balances/<id> .* from balance, .*: balances"):
        Application([BANK], [Balances()], reads=[read("/balances/<id>", projection="balance")])


@pytest.mark.parametrize("path", ["/balances", "/balances/<number>", "/banks/<bank>/<id>"])
def test_a_read_that_shows_an_aggregate_does_so_by_its_id(path: str) -> None:
    with pytest.raises(ValueError, match="by <id>"):
        Read(path=path, answer=get_balance, shape=Balance, aggregate=Account.kind)


@pytest.mark.parametrize(
    ("reads", "told"),
    [
        ([read("/events")], "/events is served already"),
        ([read("/docs")], "/docs is served already"),
        ([read("/a"), read("/a", get_other_balance)], "/a is served already"),
        ([read("/a"), read("/b")], "/b: there is another get_balance"),
    ],
    ids=["events", "docs", "twice", "two of one name"],
)
def test_no_read_hides_another(reads: list[Read], told: str) -> None:
    application = Application([BANK], [Balances()], reads=reads)
    with (
        bootstrap(Settings(event_store="memory://"), application=application) as running,
        pytest.raises(ValueError, match=told),
    ):
        create_app(running)


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
        ("no_bank:APPLICATION", "there is no module no_bank in .*"),
        ("no_bank.of_mine:APPLICATION", "there is no module no_bank in .*"),
        ("wrong_bank.mine:APPLICATION", r"there is no module wrong_bank\.mine in .*"),
        ("wrong_bank:MISSING", r"there is no MISSING in .*/wrong_bank\.py"),
        ("wrong_bank:BANK", r"wrong_bank:BANK is Module\(.*\): it must be an Application, or"),
        ("wrong_bank:forgetful", "wrong_bank:forgetful makes None: it must be an Application, or"),
    ],
)
def test_what_is_no_application_is_told(name: str, told: str, place: Path) -> None:
    (place / "wrong_bank.py").write_text(BANKING)
    settings = Settings.from_env({"SHOP_APPLICATION": name})
    with pytest.raises(ConfigurationError, match=f"SHOP_APPLICATION: {told}"):
        application_of(settings)


def test_what_the_module_of_an_application_lacks_is_no_matter_of_settings(place: Path) -> None:
    (place / "lacking_bank.py").write_text("import no_such_library")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        application_of(Settings(application="lacking_bank:APPLICATION"))


@pytest.mark.parametrize("name", ["notes", "notes:", ":APPLICATION", "notes.py:a.b", "a..b:c", ""])
def test_an_application_is_named_by_module_and_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"SHOP_APPLICATION: it is no module:name"):
        Settings.from_env({"SHOP_APPLICATION": name})
