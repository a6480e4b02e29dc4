"""What an application is made of, apart from the machinery that runs it: the shop is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shop.eventsourcing import EventData, Module, Projection, Registry, Workflow, WorkflowList


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

    ``position`` is where it stands, at least, as far as the models told. The entity tag is made
    of the content unless one is given.
    """

    value: object | None
    position: int = 0
    etag: str | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A read: all that is needed to serve and to document it.

    ``answer`` is called with the running :class:`~shop.runtime.Shop`, the query, and the variable
    parts of the path: those named ``id`` as UUIDs. Its name is the read's, and its docstring
    describes it. ``shape`` is the type of what it finds. ``projection`` names the one whose models
    it answers from; without one it answers from the log. ``aggregate`` names the one that it shows
    by ``<id>``, if it does: then the answer to a command that creates one leads here.

    Raises ``ValueError`` where ``aggregate`` is given and ``<id>`` is not all that varies.
    """

    path: str
    answer: Callable[..., Answer]
    shape: Any
    query: type[msgspec.Struct] = NoQuery
    projection: str | None = None
    aggregate: str | None = None

    def __post_init__(self) -> None:
        if self.aggregate and ("<id>" not in self.path or self.path.count("<") > 1):
            raise ValueError(f"{self.path} shows no {self.aggregate} by <id>")

    @property
    def name(self) -> str:
        """The name of the read, for programs."""
        return self.answer.__name__


class Application(msgspec.Struct, frozen=True):
    """An author's modules, projections and workflows, and what of it can be read over HTTP.

    Commands need not be listed: all of the modules are served. ``title`` and ``version`` are those
    of the HTTP interface.

    Raises ``ValueError`` where something is missing among the projections: :class:`WorkflowList`,
    if there are workflows, or the one that a read answers from.
    """

    modules: Sequence[Module]
    projections: Sequence[Projection] = ()
    workflows: Sequence[Workflow[Any]] = ()
    reads: Sequence[Read] = ()
    title: str = "Application"
    version: str = "0"

    def __post_init__(self) -> None:
        known = {projection.name for projection in self.projections}
        if self.workflows and not any(isinstance(p, WorkflowList) for p in self.projections):
            raise ValueError("with workflows, WorkflowList() must be among the projections")
        for read in self.reads:
            if read.projection not in {None, *known}:
                raise ValueError(
                    f"{read.path} is to answer from {read.projection}, which is not among the"
                    f" projections: {', '.join(known) or 'there are none'}"
                )

    @property
    def registry(self) -> Registry[EventData]:
        """All events of the modules."""
        return Registry([event for module in self.modules for event in module.events])
