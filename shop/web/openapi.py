"""The OpenAPI 3.1 document, made from the command registry and the reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import Any

import msgspec
from flask import Flask, Response

from shop.application import Application, Read
from shop.eventsourcing import CommandPayload
from shop.runtime import Shop
from shop.web.batch import NDJSON, Line
from shop.web.components import (
    HEADERS,
    PARAMETERS,
    Document,
    ProblemDetails,
    headers,
    problem_responses,
    problems,
    ref,
)
from shop.web.examples import HOST, curl, example
from shop.web.health import Liveness, Readiness
from shop.web.json_lines import json_line
from shop.web.shapes import Result

JSON = "application/json"

_INTRODUCTION = """\
Commands are sent with POST, what came of them is read with GET.

Every error is a problem document (RFC 9457) whose `type` is stable. What is no HTTP,
too large for the HTTP server, or sent in a way that it does not know, is refused by that in plain
text (400, 413, 431, 501).

A command with an `Idempotency-Key` may be sent again until it was answered: it is done once. The
answer to a command that was done, and to every read, tells its `Shop-Position`; a read with
`Shop-Min-Position` shows at least that."""


def register_openapi(app: Flask, shop: Shop, reads: Sequence[Read]) -> Document:
    """Serve the document at ``/openapi.json``, and return it."""
    described = document(shop.application, list(shop.commands.registry), reads)
    body = json_line(described)

    def openapi() -> Response:
        return Response(body, 200, {"Cache-Control": "no-cache"}, content_type=JSON)

    app.add_url_rule("/openapi.json", view_func=openapi)
    return described


def document(
    application: Application, commands: Sequence[type[CommandPayload]], reads: Sequence[Read]
) -> Document:
    """The OpenAPI document of an application, for these commands and reads."""
    aggregate = commands[0].aggregate if commands else "aggregate"  # for examples
    shapes = [Result, ProblemDetails, Line, Liveness, Readiness]
    shapes += [*commands, *(read.shape for read in reads), *(read.query for read in reads)]
    references, components = _components(shapes)
    schemas = dict(zip(map(str, shapes), references, strict=True))
    shown = {str(read.shape) for read in reads}
    for query in {str(read.query) for read in reads} - shown:
        del components[_name(schemas[query])]
    for component in components.values():  # of generic types, "Page[Order]"
        component["title"] = component["title"].replace("[", " of ").rstrip("]")
    paths: Document = {}
    for cls in commands:
        paths |= _command_paths(cls, schemas[str(cls)], schemas[str(Result)], components)
    paths["/commands"] = {"post": _batch(schemas[str(Line)])}
    for read in reads:
        path = re.sub("<(.*?)>", r"{\1}", read.path)
        paths[path] = {"get": _read(read, path, schemas[str(read.shape)], aggregate)}
    paths |= _monitoring(schemas[str(Liveness)], schemas[str(Readiness)])
    return {
        "openapi": "3.1.1",
        "info": {
            "title": application.title,
            "version": application.version,
            "description": _INTRODUCTION,
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "responses": problem_responses(schemas[str(ProblemDetails)]),
        },
    }


def _command_paths(
    cls: type[CommandPayload], schema: Document, result: Document, components: Mapping[str, Any]
) -> Document:
    """A command's path with the id of its aggregate and, if it creates it, the one without."""
    payload = example(schema, components)
    changed = "What the command did; no events when nothing had to change"
    created = {"201": _done(result, "What was created", "Location")} if cls.creates else {}
    paths = {f"/commands/{cls.wire.name}/{{id}}": True}
    if cls.creates:
        paths = {f"/commands/{cls.wire.name}": False, **paths}
    if_match = "IfMatchOfNew" if cls.creates else "IfMatch"
    description = cleandoc(cls.__doc__ or cls.wire.name)
    return {
        path: {
            "post": {
                "operationId": cls.wire.name + ("" if with_id or not cls.creates else ".new"),
                "summary": description.splitlines()[0],
                "description": description,
                "tags": [cls.aggregate],
                "parameters": [
                    *([_path_parameter("id")] if with_id else []),
                    *map(ref("parameters"), ("IdempotencyKey", if_match, "Prefer")),
                ],
                "requestBody": {
                    "required": True,
                    "content": {JSON: {"schema": schema, "example": payload}},
                },
                "responses": {
                    **created,
                    "200": _done(result, changed),
                    **problems(400, 403, 404, 405, 409, 412, 413, 415, 422, 500, 503),
                },
                "x-codeSamples": [{"lang": "Shell", "source": curl(path, payload)}],
            }
        }
        for path, with_id in paths.items()
    }


def _done(result: Document, description: str, *more_headers: str) -> Document:
    return {
        "description": description,
        "headers": headers(
            [*more_headers, "ETag", "Shop-Position", "Preference-Applied", "Idempotent-Replayed"]
        ),
        "content": {JSON: {"schema": result}},
    }


def _batch(line: Document) -> Document:
    return {
        "operationId": "batch",
        "summary": "Many commands, a line of JSON for each",
        "description": "Answered with a line for each, in their order: the number of the `line`,"
        " its `status`, and what `POST /commands/{name}` answers with. Lines are counted from 1,"
        " blank ones too. A bad line is told with its `command_id` where `id` is valid."
        " It does not stop the others.",
        "tags": ["batch"],
        "requestBody": {
            "required": True,
            "content": {NDJSON: {"schema": {"type": "string"}, "x-line-schema": line}},
        },
        "responses": {
            "200": {
                "description": "A line for each line",
                "content": {NDJSON: {"schema": {"type": "string"}}},
            },
            **problems(400, 403, 405, 415, 500, 503),
        },
        "x-codeSamples": [
            {
                "lang": "Shell",
                "source": f"curl -H 'Content-Type: {NDJSON}' --data-binary @commands.ndjson"
                f" {HOST}/commands",
            }
        ],
    }


def _read(read: Read, path: str, schema: Document, aggregate: str) -> Document:
    query = _query_parameters(read.query)
    told = headers(["ETag", "Shop-Position"])
    sample = curl(path.replace("{aggregate}", aggregate))
    return {
        "operationId": read.name,
        "summary": read.description.splitlines()[0],
        "description": read.description,
        "tags": [path.split("/")[1]],
        "parameters": [
            *(_path_parameter(name) for name in re.findall("{(.*?)}", path)),
            *query,
            *map(ref("parameters"), ("ShopMinPosition", "Prefer", "IfNoneMatch")),
        ],
        "responses": {
            "200": {
                "description": "What there is",
                "headers": told,
                "content": {JSON: {"schema": schema}},
            },
            "304": {"description": "The entity tag still holds", "headers": told},
            **problems(400, 403, *([404] if "{" in path else []), 405, 500, 503),
        },
        "x-codeSamples": [{"lang": "Shell", "source": sample}],
    }


def _monitoring(liveness: Document, readiness: Document) -> Document:
    text = {"text/plain": {"schema": {"type": "string"}}}
    ready = {"content": {JSON: {"schema": readiness}}}
    answers: Mapping[str, tuple[str, Document]] = {
        "/livez": (
            "Whether the process answers",
            {"200": {"description": "It does", "content": {JSON: {"schema": liveness}}}},
        ),
        "/readyz": (
            "Whether it can do its work",
            {
                "200": {"description": "It can", **ready},
                "503": {
                    "description": "It cannot; `problems` says why",
                    "headers": headers(["Retry-After"]),
                    **ready,
                },
            },
        ),
        "/metrics": (
            "Figures for Prometheus",
            {"200": {"description": "In its text format", "content": text}},
        ),
    }
    return {
        path: {
            "get": {
                "operationId": path.removeprefix("/"),
                "summary": summary,
                "tags": ["monitoring"],
                "responses": {**responses, **problems(403, 405, 500)},
                "x-codeSamples": [{"lang": "Shell", "source": curl(path)}],
            }
        }
        for path, (summary, responses) in answers.items()
    }


def _query_parameters(query: type[msgspec.Struct]) -> Iterator[Document]:
    [reference], components = _components([query])
    described = components[_name(reference)]
    required = described.get("required", ())
    for name, schema in described["properties"].items():
        field = dict(schema)
        if field.get("default") in ("", []):
            del field["default"]
        yield {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": field.pop("description", ""),
            "schema": field,
        }


def _components(shapes: Sequence[Any]) -> tuple[Sequence[Document], Document]:
    """A reference for each shape, and what these refer to."""
    references, components = msgspec.json.schema_components(
        shapes, ref_template="#/components/schemas/{name}"
    )
    return references, dict(components)


def _name(reference: Document) -> str:
    """Of the component that it refers to."""
    return str(reference["$ref"]).rpartition("/")[2]


def _path_parameter(name: str) -> Document:
    schema = {"type": "string", "format": "uuid"} if name == "id" else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}
