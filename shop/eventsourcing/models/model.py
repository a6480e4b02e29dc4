"""Read models: what queries answer with, kept up to date by projections.

A model is an immutable struct under an id, in a collection of one projection. The collections of a
projection and its checkpoint are changed together: every model equals the fold of the log up to
the checkpoint.
"""

from __future__ import annotations

import re
from functools import cache
from typing import ClassVar, TypeVar
from uuid import UUID

import msgspec

IndexValue = str | int | bool | UUID
"""What a model can be looked up by."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LONGEST_NAME = 120
"""Characters of a collection's name: with database and prefix, MongoDB takes 255 bytes."""
_LONGEST_FIELD = 60
"""Characters of an indexed field's name: PostgreSQL has 63 bytes for that of a column."""


class ReadModel(msgspec.Struct, frozen=True):
    """Base of read models. ``indexes`` names the fields that models are looked up by.

    Models are listed in the order of the events that made them, or by the integer field that
    ``ordered_by`` names.
    """

    indexes: ClassVar[tuple[str, ...]] = ()
    ordered_by: ClassVar[str | None] = None


M = TypeVar("M", bound=ReadModel)


class Collection(msgspec.Struct, frozen=True):
    """Where the models of one class are kept: a name, and the fields that have an index.

    Raises ``ValueError`` for a name that :func:`check_name` refuses.
    """

    name: str
    indexes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("the name of a collection", self.name)
        for field in self.indexes:
            check_name(f"an indexed field of {self.name}", field, longest=_LONGEST_FIELD)

    @classmethod
    @cache
    def of(cls, projection: str, model: type[ReadModel]) -> Collection:
        """The collection of a model class in a projection, such as ``order_summary_order``."""
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", model.__name__).lower()
        return cls(f"{projection}_{snake}", model.indexes)


def check_name(what: str, name: object, *, longest: int = _LONGEST_NAME) -> None:
    """Raise ``ValueError`` for a name that some store cannot give to a collection or an index."""
    if not (isinstance(name, str) and len(name) <= longest and _NAME.fullmatch(name)):
        raise ValueError(
            f"{what} must be up to {longest} lower-case letters, digits and _, beginning with a"
            f" letter, not {name!r}"
        )
