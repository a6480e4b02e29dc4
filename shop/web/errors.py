"""What goes wrong, told as problem details (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from flask import Flask, Response, request
from msgspec import UNSET, UnsetType
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from shop.eventsourcing import (
    AggregateNotFoundError,
    CommandIdReusedError,
    CommandRejected,
    CommandTimeoutError,
    EventSourcingError,
    NoWorkerError,
    OutcomeUnknownError,
    PayloadError,
    StaleVersionError,
    StoreClosedError,
    StoreUnavailableError,
    UnknownCommandError,
)
from shop.web.json_lines import json_response

logger = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}


class FieldError(msgspec.Struct, frozen=True):
    """One thing that is wrong in a request.

    Where it is: a JSON pointer (RFC 6901) into the body, or the name of a query parameter.
    """

    detail: str
    pointer: str | UnsetType = UNSET
    parameter: str | UnsetType = UNSET


class Problem(Exception):
    """A request is not done, for a reason that the client is told.

    ``code`` is stable, for programs; ``detail`` is for people. ``extras`` are further members.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extras: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extras = {**extras, "errors": errors} if errors else extras

    def members(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "type": f"urn:shop:problem:{self.code}",
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            **self.extras,
        }

    def response(self) -> Response:
        """The answer."""
        return json_response(self.members(), self.status, self.headers, "application/problem+json")


def problem_of(error: Exception, what: str) -> Problem:
    """The problem that a client is told; logged when the client did not cause it.

    Only errors raised on purpose are quoted: the text of another might hold a secret. ``what``
    names what failed, for the log.
    """
    if isinstance(error, Problem):
        return error
    for kind, translate in _TRANSLATIONS.items():
        if isinstance(error, kind):
            return translate(error)
    logger.error("%s failed", what, exc_info=error)
    return Problem(500, "internal-error", "something went wrong here; the log says what")


def register_errors(app: Flask) -> None:
    """Have the app answer every error with a problem."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Response:
        return problem_of(error, f"{request.method} {request.path}").response()


def _stale(error: StaleVersionError) -> Problem:
    etag = {"ETag": f'"{error.actual}"'}
    return Problem(412, "version-stale", str(error), headers=etag, version=error.actual)


def _payload(error: PayloadError) -> Problem:
    wrong = FieldError(error.reason, pointer=error.path)
    return Problem(422, "payload-invalid", str(error), errors=[wrong])


def _unavailable(error: EventSourcingError) -> Problem:
    logger.warning("a request could not be done: %s", error)
    return Problem(503, "unavailable", "try again in a moment", headers=RETRY_AFTER)


def _no_worker(error: NoWorkerError) -> Problem:
    logger.warning("a command could not be done: %s", error)
    detail = f"no worker accepted {error.name}, and nothing was done: try again in a moment"
    return Problem(503, "no-worker", detail, headers=RETRY_AFTER)


def _outcome_unknown(error: OutcomeUnknownError) -> Problem:
    logger.warning("a command was not answered: %s", error)
    detail = (
        "no worker told in time what became of the command: send it again with its command_id as"
        " Idempotency-Key (id in a batch), and it is done once"
    )
    return Problem(503, "outcome-unknown", detail, headers=RETRY_AFTER, command_id=error.command_id)


def _http(error: HTTPException) -> Problem:
    """The problem for an error of Flask or Werkzeug."""
    status = error.code or 500
    headers = {}
    detail = error.description or error.name
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
        detail = f"this path takes {headers['Allow']}"
    elif status == 404:
        detail = "there is nothing at this path; GET / lists what there is"
    return Problem(status, error.name.lower().replace(" ", "-"), detail, headers=headers)


_TRANSLATIONS: Mapping[type[Exception], Callable[[Any], Problem]] = {
    CommandRejected: lambda error: Problem(409, error.code, error.detail),
    AggregateNotFoundError: lambda error: Problem(404, "aggregate-unknown", str(error)),
    UnknownCommandError: lambda error: Problem(404, "command-unknown", str(error)),
    StaleVersionError: _stale,
    CommandIdReusedError: lambda error: Problem(422, "command-id-reused", str(error)),
    PayloadError: _payload,
    CommandTimeoutError: lambda error: Problem(503, "busy", str(error), headers=RETRY_AFTER),
    NoWorkerError: _no_worker,
    OutcomeUnknownError: _outcome_unknown,
    StoreUnavailableError: _unavailable,
    StoreClosedError: _unavailable,
    HTTPException: _http,
}
