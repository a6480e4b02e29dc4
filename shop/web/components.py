"""The parts of the OpenAPI document that many operations have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from shop.web.errors import FieldError

Document = dict[str, Any]


class ProblemDetails(msgspec.Struct, frozen=True):
    """Why a request was not done (RFC 9457). Some types have further members."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    version: int = 0


def _header(description: str, schema: Document | None = None) -> Document:
    return {"description": description, "schema": schema or {"type": "string"}}


_NUMBER: Document = {"type": "string", "pattern": "^[0-9]{1,18}$"}

HEADERS: Document = {
    "Location": _header("Where to read what was created"),
    "ETag": _header(
        "Of a command and of a stream, the version of the aggregate in quotes; of other reads, a"
        " hash of the content"
    ),
    "Shop-Position": _header("The position of the log that the answer stands at", _NUMBER),
    "Preference-Applied": _header(
        "`wait` when all read models have reached the command", {"const": "wait"}
    ),
    "Idempotent-Replayed": _header(
        "`true` when the command was done before, and this is its first result", {"const": "true"}
    ),
    "Retry-After": _header("Seconds to wait before trying again"),
    "Allow": _header("The methods that may be used"),
    "Accept-Post": _header("The media type that is understood"),
    "Accept-Encoding": _header("`identity`: what is compressed is not understood"),
}


def _parameter(name: str, description: str, schema: Document) -> Document:
    return {"name": name, "in": "header", "description": description, "schema": schema}


_EXPECTED = (
    "The expected version of the addressed aggregate, in quotes: the `ETag` of a command's"
    " answer, or of `GET /streams/{aggregate}/{id}`; no other read has it"
)
PARAMETERS: Document = {
    "IdempotencyKey": _parameter(
        "Idempotency-Key",
        "Becomes the command's id: a command sent again with it is done once",
        {"type": "string", "format": "uuid"},
    ),
    "IfMatch": _parameter(
        "If-Match",
        f"{_EXPECTED}. `*` stands for any",
        {"type": "string", "pattern": r'^(\*|"[0-9]{1,18}")$'},
    ),
    "IfMatchOfNew": _parameter(
        "If-Match", _EXPECTED, {"type": "string", "pattern": '^"[0-9]{1,18}"$'}
    ),
    "Prefer": _parameter(
        "Prefer",
        "`wait=<seconds>`: wait for the read models, at most 30 seconds. While too many others"
        " wait, for 0.1 seconds; then a command is answered without `Preference-Applied`, a read"
        " with 503",
        {"type": "string", "examples": ["wait=10"]},
    ),
    "ShopMinPosition": _parameter(
        "Shop-Min-Position",
        "Answer with what has reached this position; waits with `Prefer: wait=<seconds>`",
        _NUMBER,
    ),
    "IfNoneMatch": _parameter(
        "If-None-Match",
        "Entity tags; one that still holds is answered with 304",
        {"type": "string"},
    ),
}

_PROBLEMS: Mapping[str, str] = {
    "400": "A header, a query parameter or the body is malformed",
    "403": "The client is not on this machine, or addresses it by another name",
    "404": "There is no such command, aggregate or path",
    "405": "The path does not take this method",
    "409": "A business rule says no; `type` says which",
    "412": "The aggregate is not at the expected version; `version` is where it is",
    "413": "The body is too large",
    "415": "The body is not of the media type that is understood, or compressed",
    "422": "The payload does not fit the schema, or the key was used for something else",
    "500": "Something went wrong on the server",
    "503": "Not now; `type` says why. `unavailable`, `busy`, `no-worker`, `position-not-reached`:"
    " nothing was written, try again. `outcome-unknown`: the command may have been done; sent again"
    " with its `command_id`, it is done once",
}
_PROBLEM_HEADERS: Mapping[str, Sequence[str]] = {
    "404": ["Shop-Position"],
    "405": ["Allow"],
    "412": ["ETag"],
    "415": ["Accept-Post", "Accept-Encoding"],
    "503": ["Retry-After"],
}


def problem_responses(schema: Document) -> Document:
    """A response for each status that stands for a problem."""
    return {
        f"Problem{status}": {
            "description": description,
            "headers": headers(_PROBLEM_HEADERS.get(status, ())),
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status, description in _PROBLEMS.items()
    }


def problems(*statuses: int) -> Document:
    """References to the problems that an operation may be answered with."""
    return {str(status): ref("responses")(f"Problem{status}") for status in statuses}


def headers(names: Iterable[str]) -> Document:
    """References to headers."""
    return {name: ref("headers")(name) for name in names}


def ref(kind: str) -> Callable[[str], Document]:
    """Makes references to components of a kind."""
    return lambda name: {"$ref": f"#/components/{kind}/{name}"}
