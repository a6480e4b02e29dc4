"""Every kind of store, by the URLs that open it.

A kind is added in one place: a function below that makes URLs of empty stores, and its entry in
``DURABLE``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest

from shop.eventsourcing import EventData, EventStore, Registry
from shop.stores import Backend, open_backend
from tests.notebook import registry as notebook

NewUrl = Callable[[], str]
"""Makes the URL of an empty store, another one each time."""


def memory(request: pytest.FixtureRequest) -> NewUrl:
    return lambda: "memory://"


def sqlite(request: pytest.FixtureRequest) -> NewUrl:
    directories: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    directory = directories.mktemp("sqlite")
    numbers = count(1)
    return lambda: f"sqlite:///{directory / f'{next(numbers)}.db'}"


def named(fixture: str) -> Callable[[pytest.FixtureRequest], NewUrl]:
    """What a fixture of ``tests/conftest.py`` makes."""

    def new_url(request: pytest.FixtureRequest) -> NewUrl:
        new: NewUrl = request.getfixturevalue(fixture)
        return new

    return new_url


DURABLE = {
    "sqlite": sqlite,
    **{kind: named(kind) for kind in ("postgres", "mongodb", "mongodb_replica_set")},
}
KINDS = {"memory": memory, **DURABLE}


class Storage:
    """The data under one URL, empty at first."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened = ExitStack()
        self._only: Backend | None = None

    def backend(self) -> Backend:
        """The stores on the data, as another process opens them, closed with this at the latest."""
        if self._only is not None:
            return self._only
        backend = open_backend(self.url)
        self._opened.callback(backend.close)
        if self.url == "memory://":  # opened again, it would be empty
            self._only = backend
        return backend

    def open(self, registry: Registry[EventData] | None = None) -> EventStore:
        """The event store on the data, closed with this at the latest."""
        return self._opened.enter_context(self.backend().events(registry or notebook()))

    def close(self) -> None:
        self._opened.close()


NewStorage = Callable[[], Storage]


@contextmanager
def storages(new_url: NewUrl) -> Iterator[NewStorage]:
    """Makes room for one empty store after the other, all closed at the end."""
    with ExitStack() as opened:

        def new() -> Storage:
            storage = Storage(new_url())
            opened.callback(storage.close)
            return storage

        yield new
