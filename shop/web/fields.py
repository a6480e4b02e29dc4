"""Decoding what clients send, with all that is wrong in it told at once.

A type says in its own words what a text must be that a pattern refuses:
``Meta(pattern=…, extra={"misfit": "This is no e-mail address"})``.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from shop.eventsourcing import CommandPayload, PayloadError, Registry
from shop.eventsourcing.events.registry import payload_error
from shop.web.errors import FieldError, Problem

WIRE_NAME = r"^[a-z0-9_.]+$(?!\n)"
"""A pattern for the names of events and aggregates; it takes others as well."""
WireName = Annotated[
    str,
    Meta(
        max_length=200,
        pattern=WIRE_NAME,
        extra={
            "misfit": "Expected a name: lower-case letters, digits and _, in words joined by dots"
        },
    ),
]
_PARTS = 100
"""How many items of a list are looked into, from the first on."""


def decode_payload(registry: Registry[CommandPayload], name: str, body: bytes) -> CommandPayload:
    """The payload of a command, from JSON. Raises :class:`Problem`."""
    try:
        return registry.decode(name, registry[name].wire.version, body)
    except (PayloadError, ValueError, RecursionError) as error:
        raise _misfit(registry[name], decode_json(body), "", error) from error


def convert_payload(
    registry: Registry[CommandPayload], name: str, value: Any, *, at: str
) -> CommandPayload:
    """The payload of a command, from the value that stands at a JSON pointer in a document.

    Raises :class:`Problem`.
    """
    try:
        return registry.convert(name, registry[name].wire.version, value)
    except PayloadError as error:
        raise _misfit(registry[name], value, at, error) from error


def _misfit(cls: type[CommandPayload], value: Any, at: str, error: Exception) -> Problem:
    detail = f"the payload does not fit the schema of {cls.wire.name}"
    errors = list(field_errors(cls, value, at)) or [FieldError(str(error), pointer=at)]
    return Problem(422, "payload-invalid", detail, errors=errors)


def decode_json(text: bytes, what: str = "body", hint: str = "") -> Any:
    """The value that a JSON text stands for.

    Raises :class:`Problem`, which calls the text by what it is, and gives the hint where the text
    is no JSON.
    """
    try:
        return msgspec.json.decode(text)
    except UnicodeDecodeError as error:
        raise Problem(400, "body-malformed", f"the {what} is not UTF-8") from error
    except RecursionError as error:
        raise Problem(400, "body-malformed", f"the {what} is nested too deeply") from error
    except ValueError as error:
        if "out of range" in str(error):  # msgspec's words; it says no more about where
            detail = f"the {what} has a number that is out of range"
        else:
            detail = f"the {what} is not JSON: {error}{hint}" if text else f"the {what} is empty"
        raise Problem(400, "body-malformed", detail) from error


def field_errors(
    cls: type[msgspec.Struct], value: Any, at: str = "", *, strict: bool = True
) -> Iterator[FieldError]:
    """What is wrong with a value that is to become a ``cls``: one error for each bad field.

    ``strict`` as :func:`msgspec.convert`: whether texts do not stand for numbers.
    """
    if not isinstance(value, dict):
        yield FieldError("Expected an object", pointer=at)
        return
    fields = _fields(cls)
    for name in value:
        if name not in fields:
            known = ", ".join(fields) or "none"
            yield FieldError(f"There is no such field; known: {known}", pointer=at + step(name))
    for name, field in fields.items():
        if name not in value:
            if field.required:
                yield FieldError("This field is required", pointer=at + step(name))
            continue
        yield from _value_errors(field.type, value[name], at + step(name), strict=strict)


def _value_errors(wanted: Any, value: Any, at: str, *, strict: bool) -> Iterator[FieldError]:
    """What is wrong with a value of any type: in its parts, or else as a whole."""
    bad_parts = list(_part_errors(wanted, value, at, strict=strict))
    yield from bad_parts
    try:
        msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        if not bad_parts:
            bad = payload_error("", error)
            yield FieldError(_told(bad.reason, wanted, strict=strict), pointer=at + bad.path)


def _part_errors(wanted: Any, value: Any, at: str, *, strict: bool) -> Iterator[FieldError]:
    if get_origin(wanted) is Annotated:
        wanted = get_args(wanted)[0]
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        if wanted.__struct_config__.forbid_unknown_fields:  # else some of these are no errors
            yield from field_errors(wanted, value, at, strict=strict)
    elif isinstance(value, list) and get_origin(wanted) in {list, tuple}:
        item, *others = get_args(wanted)
        for number, part in enumerate(value[:_PARTS] if others in ([], [...]) else ()):
            yield from _value_errors(item, part, f"{at}/{number}", strict=strict)


def _told(reason: str, wanted: Any, *, strict: bool) -> str:
    """A reason of msgspec's in words for people, where its own are for programmers.

    ``wanted`` is the type of the field in or under which something is wrong. A value that is not
    ``strict`` is a text, whatever it stands for.
    """
    choices = ", ".join(map(str, _choices(wanted)))
    if choices and reason.startswith("Invalid enum value"):
        return f"Expected one of: {choices}"
    if reason.startswith("Expected `int") and reason.endswith("got `float`"):
        return "Expected a whole number, written without a decimal point"
    if reason == "Expected `int`, got `str`" and not strict:
        return "Expected a whole number"
    for meta in _metas(wanted):
        if meta.extra and reason == f"Expected `str` matching regex {meta.pattern!r}":
            return str(meta.extra.get("misfit", reason))
    return reason


def _metas(wanted: Any, seen: frozenset[Any] = frozenset()) -> Iterator[Meta]:
    """What the annotations in a type say, and in the fields of structs in it."""
    if isinstance(wanted, Meta):
        yield wanted
    parts = get_args(wanted)
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct) and wanted not in seen:
        parts, seen = tuple(field.type for field in _fields(wanted).values()), seen | {wanted}
    for part in parts:
        yield from _metas(part, seen)


def _choices(wanted: Any) -> Iterator[Any]:
    """The values of the literals and enumerations that a type is made of."""
    if get_origin(wanted) is Literal:
        yield from get_args(wanted)
    elif isinstance(wanted, type) and issubclass(wanted, StrEnum):
        yield from wanted
    else:
        for part in get_args(wanted):
            yield from _choices(part)


@lru_cache
def _fields(cls: type[msgspec.Struct]) -> dict[str, FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(cls)}


def step(name: str) -> str:
    """One step of a JSON pointer."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def first_step(pointer: str) -> str:
    """The name in the first step of a JSON pointer."""
    return pointer.split("/")[1].replace("~1", "/").replace("~0", "~")
