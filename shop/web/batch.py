"""Many commands in one request: a line of JSON for each, and a line for each result."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import IO, Annotated, Any
from uuid import UUID

import msgspec
from flask import Flask, Response, request
from msgspec import Meta

from shop.eventsourcing import Command, CommandPayload, CommandResult
from shop.runtime import Shop
from shop.web.commands import (
    LARGEST_BODY,
    check_addressed,
    check_content_type,
    check_no_query,
    has_created,
    known_command,
)
from shop.web.errors import RETRY_AFTER, FieldError, Problem, problem_of
from shop.web.fields import convert_payload, decode_json, field_errors
from shop.web.json_lines import json_line
from shop.web.shapes import Result

NDJSON = "application/x-ndjson"
_CHUNK = 64 * 1024
"""Bytes of the body that are read at once."""
_TOGETHER = 100
"""Lines whose commands are dispatched together."""
_HINT = "; a line holds one JSON object (curl: --data-binary keeps line ends, -d does not)"


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One command. ``id`` is the command's own: sent again, it is done once."""

    name: Annotated[str, Meta(description="Of the command, as in its path")]
    payload: Annotated[Any, Meta(extra_json_schema={"type": "object"})]
    aggregate_id: UUID | None = None
    id: UUID | None = None


class _Identified(msgspec.Struct, frozen=True):
    id: UUID | None = None


_decode_line = msgspec.json.Decoder(Line).decode


def register_batch(app: Flask, shop: Shop, *, max_batches: int) -> None:
    """Serve batches of commands, at most ``max_batches`` at a time."""
    endpoint = BatchEndpoint(shop, max_batches)
    app.add_url_rule("/commands", "batch", endpoint.answer, methods=["POST"])


class BatchEndpoint:
    """Answers batches of commands. Neither a batch nor its results are ever held as a whole.

    At most ``max_batches`` are carried out at a time, since each holds a thread for long.
    """

    def __init__(self, shop: Shop, max_batches: int) -> None:
        self._shop = shop
        self._max_batches = max_batches
        self._free = threading.BoundedSemaphore(max_batches)

    def answer(self) -> Response:
        """Answer the request: the view function."""
        self._shop.check_open()
        check_no_query(request.environ)
        check_content_type(request.environ, NDJSON)
        _check_no_conditions()
        if not self._free.acquire(blocking=False):
            busy = f"{self._max_batches} batches are under way: try again"
            raise Problem(503, "busy", busy, headers=RETRY_AFTER)
        place = ExitStack()
        place.callback(self._free.release)
        response = Response(self._results(request.stream, place), 200, content_type=NDJSON)
        response.call_on_close(place.close)  # also if the client is gone before the first result
        return response

    def _results(self, body: IO[bytes], place: ExitStack) -> Iterator[bytes]:
        left = lines(body)
        with place:
            while some := list(islice(left, _TOGETHER)):
                results = self._carry_out(text for _, text in some)
                for (number, _), result in zip(some, results, strict=True):
                    yield json_line({"line": number, **result})

    def _carry_out(self, texts: Iterable[bytes]) -> list[dict[str, Any]]:
        """The results of some lines, whose commands are dispatched together."""
        wanted = [self._command(text) for text in texts]
        commands = [one for one in wanted if isinstance(one, Command)]
        outcomes = iter(self._shop.commands.dispatch_each(commands))
        return [_result(one, next(outcomes)) if isinstance(one, Command) else one for one in wanted]

    def _command(self, text: bytes) -> Command[CommandPayload] | dict[str, Any]:
        """The command of a line, or the result that tells what is wrong with the line."""
        id = None
        try:
            line = _parse(text)
            id = line.id
            self._check_not_ending()
            cls = known_command(self._shop, line.name)
            check_addressed(cls, line.aggregate_id)
            registry = self._shop.commands.registry
            payload = convert_payload(registry, line.name, line.payload, at="/payload")
            return Command.new(payload, line.aggregate_id, id=id)
        except Exception as error:  # noqa: BLE001 - a bad line must not end the others
            return _failed(id, error)

    def _check_not_ending(self) -> None:
        if self._shop.ending:
            raise Problem(503, "unavailable", "the shop is stopping", headers=RETRY_AFTER)


def _check_no_conditions() -> None:
    """Raise :class:`Problem` for headers that are about one command, which would go unheeded."""
    for name in ("If-Match", "If-None-Match", "Idempotency-Key"):
        if name in request.headers:
            raise Problem(
                400,
                "header-invalid",
                f"a batch takes no {name}: the `id` of a line has it done once",
            )


def _parse(text: bytes) -> Line:
    if len(text) > LARGEST_BODY:
        raise Problem(413, "body-too-large", f"a line has at most {LARGEST_BODY} bytes")
    try:
        return _decode_line(text)
    except (ValueError, RecursionError) as error:
        value = decode_json(text, "line", _HINT)
        errors = list(field_errors(Line, value))
        raise Problem(
            422,
            "line-invalid",
            "the line does not fit the schema of a command in a batch",
            errors=errors or [FieldError(str(error), pointer="")],
            command_id=_id_of(value),
        ) from error


def _result(command: Command[CommandPayload], outcome: CommandResult | Exception) -> dict[str, Any]:
    if isinstance(outcome, Exception):
        return _failed(command.id, outcome)
    status = 201 if has_created(type(command.payload), outcome) else 200
    return {"status": status, **msgspec.structs.asdict(Result.of(outcome))}


def _failed(id: UUID | None, error: Exception) -> dict[str, Any]:
    members = problem_of(error, f"command {id} of a batch").members()
    return {"status": members["status"], "command_id": id, **members}


def _id_of(value: Any) -> UUID | None:
    """The id in a line that is wrong elsewhere: the client knows its command by it."""
    try:
        return msgspec.convert(value, _Identified).id
    except msgspec.ValidationError:
        return None


def lines(body: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines of a body with their numbers. Blank lines are counted and left out.

    An over-long line is cut just past the limit, so the caller still sees that it is too long.
    """
    line = bytearray()
    number = 1
    while chunk := body.read(_CHUNK):
        *complete, last = chunk.split(b"\n")
        for part in complete:
            _extend(line, part)
            if line.strip():
                yield number, bytes(line)
            line.clear()
            number += 1
        _extend(line, last)
    if line.strip():
        yield number, bytes(line)


def _extend(line: bytearray, part: bytes) -> None:
    if len(line) <= LARGEST_BODY:
        line += part
