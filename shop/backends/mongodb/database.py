"""One database of a MongoDB server: the client that all threads share, set up on first use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from uuid import UUID

from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from shop.backends.mongodb.documents import Document
from shop.backends.mongodb.errors import translated
from shop.backends.mongodb.schema import MARKER, Documents, prepare
from shop.eventsourcing.errors import StoreClosedError, StoreError

_ANSWER = 20.0
"""Seconds beyond the time-out for a connection in which a server must answer an operation: a
server that hangs must not hang a thread for ever."""


class Database:
    """A database, with its collections under names that begin with a prefix. Thread-safe.

    Nothing is asked of the server before the first use, which makes collections and indexes where
    they are missing; while that fails, every use tries again. All writes are on the disk of a
    majority of the replica set when they are acknowledged, or on that of the one server.
    """

    def __init__(
        self, url: str, name: str, *, prefix: str = "", pool_size: int = 16, timeout: float = 5.0
    ) -> None:
        """``timeout`` is in seconds: to reach a server, to get a connection of the pool, and to
        find out what became of an append whose connection was lost.

        Raises :class:`StoreError` where the driver does not take the URL.
        """
        self.where = f"mongodb://{url.partition('://')[2].rpartition('@')[2].partition('/')[0]}/"
        self.where += name
        self.prefix = prefix
        self.timeout = timeout
        milliseconds = int(timeout * 1000)
        self.write_concern = WriteConcern(w="majority", j=True, wtimeout=milliseconds)
        try:
            self._client: MongoClient[Document] = MongoClient(
                url,
                connect=False,
                appname="shop",
                maxPoolSize=pool_size,
                serverSelectionTimeoutMS=milliseconds,
                connectTimeoutMS=milliseconds,
                waitQueueTimeoutMS=milliseconds,
                socketTimeoutMS=milliseconds + int(_ANSWER * 1000),
                # Commits are repeated under their ids, and everything else may be done twice.
                retryWrites=False,
            )
        except (PyMongoError, ValueError) as error:
            raise StoreError(f"cannot use {self.where}: {error}") from error
        self._database: Documents = self._client.get_database(
            name,
            read_preference=ReadPreference.PRIMARY,
            write_concern=self.write_concern,
        )
        self._lock = threading.Lock()
        self._identity: UUID | None = None
        self._closed = False
        self.before_close = ExitStack()
        """What is done first when the database is closed."""

    @property
    def identity(self) -> UUID:
        """The store's identity, made with the store. Raises as :meth:`open`."""
        self.open()
        assert self._identity is not None
        return self._identity

    def open(self) -> Documents:
        """The driver's database, set up.

        Raises :class:`StoreFormatError` where its collections are not this program's, and
        :class:`StoreUnavailableError` where the server cannot be reached.
        """
        if self._closed:
            raise StoreClosedError(f"{self.where} is closed")
        if self._identity is None:
            with self._lock:
                if self._identity is None:
                    self._prepare()
        return self._database

    def prepare(self) -> None:
        """Set up once more, since another database may be in the place of the one set up before.

        Raises as :meth:`open`.
        """
        with self._lock:
            self._prepare()

    def _prepare(self) -> None:
        with self.translated():
            ours = self._identity is not None
            self._identity = UUID(prepare(self._database, self.prefix, self.where, ours=ours))

    def collection(self, name: str) -> Collection[Document]:
        """One of the collections. Raises as :meth:`open`."""
        return self.open()[self.prefix + name]

    @contextmanager
    def using(self, name: str) -> Iterator[Collection[Document]]:
        """One of the collections; what the driver raises in the block is translated."""
        collection = self.collection(name)
        with self.translated():
            yield collection

    def translated(self) -> AbstractContextManager[None]:
        """Raise the toolkit's errors for the driver's that are raised in the block."""
        return translated(self.where, self.timeout)

    def exists(self) -> bool:
        """Whether there is a store. Makes none, as all other uses do; raises as they do."""
        with self.translated():
            return self._database[f"{self.prefix}store"].find_one({"_id": MARKER}) is not None

    def close(self) -> None:
        """Finish the appends under way, and close all connections; idempotent."""
        self.before_close.close()
        self._closed = True
        self._client.close()
