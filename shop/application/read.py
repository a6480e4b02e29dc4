"""What an application answers to GET."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shop.application.errors import ApplicationError
from shop.eventsourcing.events.types import check_signature

_PATH = r"/[\w.~-]+(/([\w.~-]+|<[A-Za-z_]\w*>))*"


class NoQuery(msgspec.Struct, frozen=True):
    """A read that takes no query parameters."""


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of a listing."""

    cursor: Annotated[
        str,
        Meta(max_length=2000, description="`next` of the page before; without it, the first page"),
    ] = ""
    limit: Annotated[
        int, Meta(ge=1, le=500, description="How many items to answer with, at most")
    ] = 50


class Answer(msgspec.Struct, frozen=True):
    """What a read found: ``None`` for nothing.

    ``position`` is where it stands, which a reader of models tells with what it finds. Without, it
    stands at least where the read's projection was, or the log, before the read began. The entity
    tag is made of the content unless one is given.
    """

    value: object | None
    position: int | None = None
    etag: str | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A read: all that is needed to serve and to document it.

    ``path`` may have variable parts in it, as ``/notes/<id>`` does. ``answer`` is called with the
    running :class:`~shop.runtime.Shop`, the query, and these parts by name: ``id`` as a UUID,
    others as they are written. Its name is the read's, and its docstring describes it. ``shape``
    is the type of what it finds. ``projection`` names the one whose models it answers from, which
    clients may wait for; without one it answers from the log. ``aggregate`` names the one that it
    shows by ``<id>``, if it does: then the answer to a command that creates one leads here.

    Raises :class:`ApplicationError` where these do not fit together.
    """

    path: str
    answer: Callable[..., Answer]
    shape: Any
    query: type[msgspec.Struct] = NoQuery
    projection: str | None = None
    aggregate: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(_PATH, str(self.path)):
            raise ApplicationError(
                [f"{self.path} is no path of a read, such as /notes or /notes/<id>"]
            )
        variables = re.findall("<(.*?)>", self.path)
        if len(set(variables)) < len(variables):
            raise ApplicationError([f"{self.path} has two parts of one name"])
        if self.aggregate and variables != ["id"]:
            raise ApplicationError([f"{self.path} shows no {self.aggregate} by <id>"])
        if not hasattr(self.answer, "__name__"):
            raise ApplicationError([f"{self.path}: {self.answer!r} is no function with a name"])
        for what, kind in (("shape", self.shape), ("query", self.query)):
            try:
                msgspec.json.schema(kind)
            except TypeError as error:
                raise ApplicationError([f"{self.path}: {what} {kind!r}: {error}"]) from error
        if not issubclass(self.query, msgspec.Struct):
            raise ApplicationError([f"{self.path}: query is a struct class, not {self.query!r}"])
        try:
            check_signature(self.answer, "shop", "query", **{name: name for name in variables})
        except TypeError as error:
            raise ApplicationError([f"{self.path}: {error}"]) from error

    @property
    def form(self) -> str:
        """The path, whatever its variable parts are called: what two reads cannot share."""
        return re.sub("<.*?>", "<>", self.path)

    @property
    def name(self) -> str:
        """The name of the read, for programs."""
        return self.answer.__name__

    @property
    def description(self) -> str:
        """What it answers with, for people."""
        return inspect.getdoc(self.answer) or self.name
