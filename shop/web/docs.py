"""The page that shows the OpenAPI document to people, and the index of paths."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Flask, Response, render_template, request

from shop.web.components import Document
from shop.web.examples import HOST
from shop.web.json_lines import json_line
from shop.web.openapi import JSON

# The page is whole in itself: nothing is fetched, and no script runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def register_docs(app: Flask, document: Document) -> None:
    """Serve the page at ``/docs``, and at ``/`` a list of all paths as JSON."""
    operations = _operations(document)
    common = _common_problems(document)
    groups: dict[str, list[dict[str, Any]]] = {}
    paths: dict[str, list[str]] = {}
    for operation in operations:
        groups.setdefault(operation["tags"][0], []).append(operation)
        paths.setdefault(operation["path"], []).append(operation["method"])
    index = json_line(
        {
            "title": document["info"]["title"],
            "docs": "/docs",
            "openapi": "/openapi.json",
            "paths": paths,
        }
    )

    def docs() -> Response:
        html = render_template(
            "docs.html",
            info=document["info"],
            groups=groups,
            common=common,
            schemas=document["components"]["schemas"],
            pretty=_pretty,
            here=lambda sample: sample.replace(HOST, request.host),
        )
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
        return Response(html, 200, headers, content_type="text/html; charset=utf-8")

    def list_paths() -> Response:
        return Response(index, 200, {"Cache-Control": "no-cache"}, content_type=JSON)

    app.add_url_rule("/docs", view_func=docs)
    app.add_url_rule("/", view_func=list_paths)


def _operations(document: Document) -> list[dict[str, Any]]:
    """All operations, with what they refer to put in, but for schemas."""
    components = document["components"]

    def resolved(kind: str, value: dict[str, Any]) -> dict[str, Any]:
        reference = value.get("$ref")
        found: dict[str, Any] = components[kind][reference.split("/")[-1]] if reference else value
        return found

    return [
        {
            **operation,
            "path": path,
            "method": method.upper(),
            "parameters": [resolved("parameters", p) for p in operation.get("parameters", ())],
            "responses": {
                status: resolved("responses", response)
                for status, response in operation["responses"].items()
            },
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def _common_problems(document: Document) -> dict[str, Any]:
    """The problems that any operation may be answered with, by status."""
    shared = [
        {
            (status, answer["$ref"])
            for status, answer in operation["responses"].items()
            if "$ref" in answer
        }
        for item in document["paths"].values()
        for operation in item.values()
    ]
    responses = document["components"]["responses"]
    return {
        status: responses[reference.split("/")[-1]]
        for status, reference in sorted(set.intersection(*shared))
    }


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
