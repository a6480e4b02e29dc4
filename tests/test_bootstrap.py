"""The composition root, and what it promises about modules: importing one does nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from shop.bootstrap import Application, bootstrap, open_event_bus, open_event_store
from shop.config import Settings
from shop.domain.product import CreateProduct
from shop.eventsourcing import (
    AggregateRef,
    Command,
    Event,
    EventData,
    Filter,
    Query,
    Registry,
    StoreFormatError,
    WorkflowEntry,
    WorkflowList,
    WorkflowStatus,
    event,
)
from shop.health import health_of
from shop.projections.product_catalog import CatalogProduct
from tests.conftest import Eventually
from tests.eventsourcing.bank import Balance, Balances, Deposit, DerivedBalances, Open
from tests.eventsourcing.reminders import MODULES, Reminders
from tests.servers import PATIENCE, environment

WATCH = """
import json, os, pkgutil, sys, threading
from importlib import import_module

done = []

def watch(name, arguments):
    kind = name.partition(".")[0]
    if kind in {"socket", "sqlite3", "subprocess"}:
        done.append(f"{name} {arguments}")
    elif name == "open" and not str(arguments[0]).endswith((".py", ".pyc", ".so")):
        done.append(f"open {arguments[0]}")

class Watched(type(os.environ)):
    def __getitem__(self, key):
        frame = sys._getframe(1)
        while frame.f_code.co_filename.endswith(("os.py", "_collections_abc.py>", "_abc>")):
            frame = frame.f_back
        if f"{os.sep}shop{os.sep}" in frame.f_code.co_filename:
            done.append(f"environ {key}")
        return super().__getitem__(key)

# What these do is their affair.
import flask, nats.aio.client, prometheus_client, psycopg, pymongo, rich.progress, waitress
os.environ.__class__ = Watched
threading.Thread.start = lambda thread: done.append(f"thread {thread.name}")
sys.addaudithook(watch)
import shop
names = ["shop", *(module.name for module in pkgutil.walk_packages(shop.__path__, "shop."))]
for name in names:
    import_module(name)
print(json.dumps({"modules": names, "done": done}))
"""


def run(program: str, directory: Path, **variables: str) -> str:
    """What a Python program prints."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env=environment(**variables),
        timeout=PATIENCE,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_importing_any_module_does_nothing(tmp_path: Path) -> None:
    report = json.loads(run(WATCH, tmp_path, SHOP_EVENT_STORE="sqlite:///imported.db"))
    assert {"shop.bootstrap", "shop.serving.server", "shop.cli.events"} < set(report["modules"])
    assert report["done"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "drivers"),
    [
        ("memory://", []),
        ("sqlite:///x.db", ["sqlite3"]),
        ("postgresql://127.0.0.1:1/x?timeout=0.1", ["psycopg"]),
        ("mongodb://127.0.0.1:1/x?timeout=0.1", ["pymongo"]),
    ],
    ids=["memory", "sqlite", "postgresql", "mongodb"],
)
def test_a_driver_is_imported_when_its_url_is_used(
    url: str, drivers: list[str], tmp_path: Path
) -> None:
    program = f"""
import sys
from shop.bootstrap import bootstrap
from shop.config import Settings
known = {{"sqlite3", "psycopg", "pymongo", "nats"}}
assert not known & set(sys.modules)
bootstrap(Settings(event_store={url!r})).close()
print(*known & set(sys.modules))
"""
    assert run(program, tmp_path).split() == drivers


def test_who_only_opens_a_store_needs_no_web_framework(tmp_path: Path) -> None:
    program = """
import sys
from shop.bootstrap import open_event_store
from shop.eventsourcing import Registry
open_event_store("sqlite:///x.db", Registry()).close()
print("flask" in sys.modules)
"""
    assert run(program, tmp_path) == "False\n"


@event("demo.noted")
class Noted(EventData, frozen=True):
    text: str


def test_any_application_may_use_the_stores(local_url: str) -> None:
    registry = Registry[EventData]([Noted])
    with open_event_store(local_url, registry) as store:
        ref = AggregateRef("demo.note", uuid4())
        commit_id = uuid4()
        noted = Event.new(ref, version=1, data=Noted("hi"))
        commit = store.append([noted], commit_id=commit_id)
        assert (commit.first, commit.last, commit.replayed) == (1, 1, False)
        assert store.append([noted], commit_id=commit_id).replayed
        (read,) = store.read(Query(aggregates=["demo.note"], after=0))
        assert read == noted.at(1)
        assert store.head() == 1


def test_any_application_runs_as_the_shop_does(local_url: str, eventually: Eventually) -> None:
    projections = [Balances(), DerivedBalances(), WorkflowList()]
    application = Application(MODULES, projections, [Reminders()])
    with bootstrap(Settings(event_store=local_url), application=application) as running:
        opened = running.commands.dispatch(Command.new(Open("Ada")))
        assert running.wait_for(opened.position, 10)
        id = opened.aggregate.id
        for name in (Balances.name, DerivedBalances.name):
            assert running.reader(name).get(Balance, id).value == Balance("Ada", 0)

        def workflow() -> WorkflowEntry | None:
            return next(running.list_workflows(), None)

        eventually(lambda: (entry := workflow()) and entry.timers[0].timer == "late")
        running.commands.dispatch(Command.new(Deposit(5), id))
        eventually(lambda: (entry := workflow()) and entry.status == WorkflowStatus.COMPLETED)
        assert health_of(running).ready


@pytest.mark.parametrize("url", ["mysql://me:s3cret@db/shop", "nonsense"])
def test_an_unknown_url_is_refused_without_showing_its_password(url: str) -> None:
    for open_ in (lambda: open_event_store(url, Registry()), lambda: open_event_bus(url)):
        with pytest.raises(ValueError, match=r"is no URL of a kind known here") as caught:
            open_()
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["sqlite:rel.db", "sqlite:/x.db", "SQLITE:///q.db", "sqlite:///q.db?x", "memory:"]
)
def test_a_url_is_as_strict_for_any_application(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="sqlite:///"):
        open_event_store(url, Registry())
    assert list(tmp_path.iterdir()) == []


def store_foreign_event(url: str) -> None:
    with open_event_store(url, Registry[EventData]([Noted])) as store:
        store.append([Event.new(AggregateRef("demo.note", uuid4()), version=1, data=Noted("hi"))])


def test_events_that_nobody_can_read_are_named_at_the_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    store_foreign_event(url)
    with pytest.raises(StoreFormatError) as error:
        bootstrap(Settings(event_store=url))
    assert re.search(r"shop\.db holds events .* demo\.noted version 1", str(error.value))
    assert re.search(
        r"Add the module .* MODULES .* SHOP_APPLICATION; .* an upcaster", str(error.value)
    )


def test_a_failed_start_leaves_nothing_open(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    store_foreign_event(url)
    with pytest.raises(StoreFormatError):
        bootstrap(Settings(event_store=url, model_store=f"sqlite:///{tmp_path / 'models.db'}"))
    assert open_files_below(tmp_path) == []


def test_threads_that_cannot_be_started_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    shop = bootstrap(Settings(event_store=f"sqlite:///{tmp_path / 'shop.db'}"))
    *_, last = shop.projections.values()

    def start() -> None:
        raise RuntimeError("can't start new thread")  # as Python says where there are too many

    monkeypatch.setattr(last, "start", start)
    with pytest.raises(RuntimeError, match="new thread"), shop:
        pytest.fail("it started")
    assert set(threading.enumerate()) == before
    assert open_files_below(tmp_path) == []


def test_read_models_may_be_in_a_database_of_their_own(tmp_path: Path) -> None:
    settings = Settings(
        event_store=f"sqlite:///{tmp_path / 'events.db'}",
        model_store=f"sqlite:///{tmp_path / 'models.db'}",
    )
    with bootstrap(settings) as shop:
        created = shop.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 50)))
        assert shop.wait_for(created.position, 10)
    (tmp_path / "events.db").rename(tmp_path / "kept.db")
    lost = Settings(event_store="memory://", model_store=settings.model_store)
    shop = bootstrap(lost)  # not started, so that it takes the models as they are
    found = shop.reader("product_catalog").find(CatalogProduct, Filter()).value
    assert [keyed.model.name for keyed in found] == ["Mouse"]
    shop.close()


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    settings = Settings(event_store=f"sqlite:///{tmp_path / 'shop.db'}")
    with bootstrap(settings) as shop:
        created = shop.commands.dispatch(Command.new(CreateProduct("Mouse", 2999, 50)))
    with bootstrap(settings) as shop:
        assert shop.store.head() == created.position
        assert shop.wait_for(created.position, 10)
        product = shop.reader("product_catalog").get(CatalogProduct, created.aggregate.id).value
        assert product is not None
        assert product.name == "Mouse"


def test_leaving_the_shop_ends_its_threads_and_closes_its_files(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with bootstrap(Settings(event_store=f"sqlite:///{tmp_path / 'shop.db'}")) as shop:
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert names >= {f"projection-{name}" for name in shop.projections}
        assert open_files_below(tmp_path)
    assert set(threading.enumerate()) == before
    assert open_files_below(tmp_path) == []
    shop.close()  # again, which does nothing


def open_files_below(directory: Path) -> list[Path]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("which files are open is known on Linux only")
    targets = [link.readlink() for link in list(descriptors.iterdir()) if link.is_symlink()]
    return [target for target in targets if target.is_relative_to(directory)]
