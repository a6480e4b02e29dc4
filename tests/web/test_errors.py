"""Which problem an error is told as."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from uuid import uuid4

import pytest

from shop.domain.order import Status
from shop.eventsourcing import (
    AggregateNotFoundError,
    AggregateRef,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    EventDecodeError,
    NoWorkerError,
    OutcomeUnknownError,
    PayloadError,
    StaleVersionError,
    StoreClosedError,
    StoreFormatError,
    StoreUnavailableError,
    UnknownCommandError,
    WorkerFailedError,
)
from shop.web.errors import problem_of
from tests.servers import ROOT

MOUSE = AggregateRef("shop.product", uuid4())


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (CommandRejected("stock-insufficient", "no more"), 409, "stock-insufficient"),
        (AggregateNotFoundError(MOUSE), 404, "aggregate-unknown"),
        (UnknownCommandError("x.y"), 404, "command-unknown"),
        (StaleVersionError(MOUSE, 1, 2), 412, "version-stale"),
        (CommandIdReusedError(uuid4()), 422, "command-id-reused"),
        (PayloadError("x.y", "too short", "/name"), 422, "payload-invalid"),
        (CommandTimeoutError("x.y", 9, 10.0), 503, "busy"),
        (NoWorkerError("x.y", "nobody is there"), 503, "no-worker"),
        (OutcomeUnknownError(uuid4(), "x.y", 10.0), 503, "outcome-unknown"),
        (WorkerFailedError(uuid4(), "x.y", "broken"), 500, "internal-error"),
        (StoreUnavailableError("locked"), 503, "unavailable"),
        (StoreClosedError("closed"), 503, "unavailable"),
        (StoreFormatError("broken"), 500, "internal-error"),
        (EventDecodeError(uuid4(), "x.y", 1, "broken"), 500, "internal-error"),
        (ZeroDivisionError("broken"), 500, "internal-error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_told_with_its_status_and_type(
    error: Exception, status: int, code: str
) -> None:
    problem = problem_of(error, "GET /stats")
    assert (problem.status, problem.code) == (status, code)
    assert problem.members()["type"] == f"urn:shop:problem:{code}"
    assert ("Retry-After" in problem.headers) == (status == 503)


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailableError("the disk of db-7 is full"),
        StoreFormatError("what db-7 holds is no store"),
        RuntimeError("db-7"),
    ],
)
def test_what_went_wrong_inside_is_logged_and_not_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert b"db-7" not in problem_of(error, "GET /stats").response().data
    assert "db-7" in caplog.text


def test_every_problem_is_described_with_its_status() -> None:
    text = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| (?:(\d+) \| )?", text, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    described = {(code, int(status or 409)) for code, status in rows}
    packages = ("shop/web", "shop/domain", "shop/eventsourcing/commands")
    sources = [source for package in packages for source in (ROOT / package).glob("*.py")]
    told = {problem for source in sources for problem in problems_in(source)}
    told |= {(f"order-{status}", 409) for status in get_args(Status) if status != "open"}
    told.add(("method-not-allowed", 405))  # one of Flask's own, as some of the 404 are
    assert described == told


def problems_in(source: Path) -> Iterator[tuple[str, int]]:
    """Code and status of the problems and refusals whose code is written out in a module."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                ast.Name("Problem"), [ast.Constant(int(status)), ast.Constant(str(code)), *_]
            ):
                yield code, status
            case ast.Call(ast.Name("CommandRejected"), [ast.Constant(str(code)), *_]):
                yield code, 409
