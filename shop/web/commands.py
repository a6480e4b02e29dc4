"""Commands over HTTP: ``POST /commands/<name>[/<id>]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from flask import Flask, Response, request

from shop.eventsourcing import AggregateRef, Command, CommandPayload, CommandResult
from shop.runtime import Shop
from shop.web.errors import FieldError, Problem
from shop.web.fields import decode_payload
from shop.web.headers import Environ, expected_version, idempotency_key, parse_uuid, preferred_wait
from shop.web.json_lines import json_response
from shop.web.shapes import Result
from shop.web.waits import Waits

LARGEST_BODY = 1024 * 1024
"""Bytes of the body of a request with one command, at most; also of a line of a batch."""


def register_commands(app: Flask, shop: Shop, waits: Waits) -> None:
    """Serve all commands that the shop knows."""
    registry = shop.commands.registry
    resources = {read.aggregate: read.path for read in shop.application.reads if read.aggregate}

    def carry_out(name: str, id: str | None = None) -> Response:
        shop.check_open()
        environ = request.environ
        check_no_query(environ)
        cls = known_command(shop, name)
        aggregate_id = _path_id(cls, id)
        check_content_type(environ, "application/json")
        command = Command.new(
            decode_payload(registry, name, read_body()),
            aggregate_id,
            id=idempotency_key(environ),
            expected_version=expected_version(environ, creates=cls.creates),
        )
        result = shop.commands.dispatch(command)
        headers = {"ETag": f'"{result.version}"', "Shop-Position": str(result.position)}
        created = has_created(cls, result)
        if created:
            headers["Location"] = _location(result.aggregate, resources)
        if result.replayed:
            headers["Idempotent-Replayed"] = "true"
        seconds = preferred_wait(environ)
        if seconds is not None and waits.wait(_reached(shop, result), seconds):
            headers["Preference-Applied"] = "wait"
        return json_response(Result.of(result), 201 if created else 200, headers)

    app.add_url_rule("/commands/<name>", "command", carry_out, methods=["POST"])
    app.add_url_rule("/commands/<name>/<id>", "command", carry_out, methods=["POST"])


def known_command(shop: Shop, name: str) -> type[CommandPayload]:
    """The payload class of a command. Raises :class:`Problem` for an unknown one."""
    if name not in shop.commands.registry:
        raise Problem(404, "command-unknown", f"there is no command {name!r}")
    return shop.commands.registry[name]


def check_addressed(cls: type[CommandPayload], id: UUID | None) -> None:
    """Raise :class:`Problem` if the command needs the id of an aggregate and has none."""
    if id is None and not cls.creates:
        name = cls.wire.name
        raise Problem(
            404,
            "id-missing",
            f"{name} needs the id of its {cls.aggregate}: POST /commands/{name}/<id>, or"
            " aggregate_id in a batch",
        )


def _path_id(cls: type[CommandPayload], text: str | None) -> UUID | None:
    id = None if text is None else parse_uuid(text)
    if id is None and text is not None:
        raise Problem(404, "not-found", f"{text!r} is no UUID, as the id of a {cls.aggregate} is")
    check_addressed(cls, id)
    return id


def _location(aggregate: AggregateRef, resources: Mapping[str, str]) -> str:
    """The path at which an aggregate can be read: where none shows it, that of its events."""
    path = resources.get(aggregate.name) or f"/streams/{aggregate.name}/<id>"
    return path.replace("<id>", str(aggregate.id))


def has_created(cls: type[CommandPayload], result: CommandResult) -> bool:
    """Whether the command is a creating one and its aggregate exists: it may record nothing."""
    return cls.creates and result.version > 0


def check_no_query(environ: Environ) -> None:
    """Raise :class:`Problem` for query parameters: commands take none."""
    if environ.get("QUERY_STRING"):
        wrong = [FieldError("There is no such parameter", parameter=name) for name in request.args]
        raise Problem(400, "query-invalid", "commands take no query parameters", errors=wrong)


def check_content_type(environ: Environ, wanted: str) -> None:
    """Raise :class:`Problem` unless the body is declared as that media type, uncompressed."""
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() != "identity":
        raise Problem(
            415,
            "encoding-unsupported",
            "the body must not be compressed: leave out Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )
    declared: str = environ.get("CONTENT_TYPE") or ""
    if declared != wanted and declared.partition(";")[0].strip().lower() != wanted:
        raise Problem(
            415,
            "media-type-unsupported",
            f"the Content-Type must be {wanted}, not {declared or 'missing'}",
            headers={"Accept-Post": wanted},
        )


def read_body() -> bytes:
    """The request's body. Raises :class:`Problem` for one that is too large, before reading it."""
    too_large = Problem(413, "body-too-large", f"a body has at most {LARGEST_BODY} bytes")
    if (request.content_length or 0) > LARGEST_BODY:
        raise too_large
    stream = request.stream
    body: bytes = stream.read(LARGEST_BODY + 1)
    # One read may bring less than what was asked for, if the body comes slowly.
    while len(body) <= LARGEST_BODY and (more := stream.read(LARGEST_BODY + 1 - len(body))):
        body += more
    if len(body) > LARGEST_BODY:
        raise too_large
    return body


def _reached(shop: Shop, result: CommandResult) -> Callable[[float], bool]:
    return lambda seconds: shop.wait_for(result.position, seconds)
