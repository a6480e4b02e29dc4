"""How every read is answered: parameters, waiting, position, entity tag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import get_origin

import msgspec
from flask import Flask, Response, request

from shop.application import Answer, ApplicationError, Read
from shop.runtime import Shop
from shop.web.errors import RETRY_AFTER, FieldError, Problem
from shop.web.fields import field_errors, first_step
from shop.web.headers import min_position, parse_uuid, preferred_wait
from shop.web.waits import Waits


def register_reads(app: Flask, reads: Sequence[Read], shop: Shop, waits: Waits) -> None:
    """Serve reads with GET (and so with HEAD)."""
    for read in reads:
        app.add_url_rule(read.path, read.name, _view(read, shop, waits), methods=["GET"])


def check_paths(app: Flask, reads: Sequence[Read]) -> None:
    """Raise :class:`ApplicationError` for reads in the way of what the app serves already.

    No two begin their paths with the same word.
    """
    words = {_first_word(rule.rule) for rule in app.url_map.iter_rules()}
    mistakes = [
        f"{read.path}: every application has a /{_first_word(read.path)}, name yours otherwise"
        for read in reads
        if _first_word(read.path) in words
    ]
    mistakes += [
        f"{read.path}: every application has a read named {read.name}, name yours otherwise"
        for read in reads
        if read.name in app.view_functions
    ]
    if mistakes:
        raise ApplicationError(mistakes)


def _first_word(path: str) -> str:
    return path.split("/")[1]


def _view(read: Read, shop: Shop, waits: Waits) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        shop.check_open()
        variables = {name: _variable(name, text) for name, text in path.items()}
        query = _query(read.query)
        environ = request.environ
        wanted = min_position(environ)
        _await(wanted, read, shop, waits)
        committed, reached = _committed(read, shop), _position(read, shop)
        answer = read.answer(shop, query, **variables)
        _check_answer(read, answer)
        stands_at = reached if answer.position is None else answer.position
        if stands_at >= committed:  # else another program has begun the models anew
            stands_at = max(stands_at, reached)
        if stands_at < wanted:
            raise _not_reached(wanted)
        position = str(stands_at)
        if answer.value is None:
            raise _missing(headers={"Shop-Position": position})
        body = msgspec.json.encode(answer.value)
        etag = answer.etag or blake2b(body, digest_size=12).hexdigest()
        headers = {"Shop-Position": position, "ETag": f'"{etag}"', "Cache-Control": "no-cache"}
        if "HTTP_IF_NONE_MATCH" in environ and request.if_none_match.contains_weak(etag):
            return Response(status=304, headers=headers)
        return Response(body + b"\n", 200, headers, content_type="application/json")

    return view


def _check_answer(read: Read, answer: object) -> None:
    """Raise ``TypeError`` for an answer that is none, or has another struct than is documented."""
    if not isinstance(answer, Answer):
        raise TypeError(f"{read.name} returned no Answer, but a {type(answer).__name__}")
    shape = get_origin(read.shape) or read.shape
    found = type(answer.value)
    # Of other types, msgspec takes more than one for the same JSON.
    structs = all(isinstance(c, type) and issubclass(c, msgspec.Struct) for c in (shape, found))
    if structs and not issubclass(found, shape):
        raise TypeError(f"{read.name} answered with no {shape.__name__}, but a {found.__name__}")


def _variable(name: str, text: str) -> object:
    if name != "id":
        return text
    id = parse_uuid(text)
    if id is None:
        raise _missing()
    return id


def _missing(headers: dict[str, str] | None = None) -> Problem:
    return Problem(404, "not-found", f"there is no {request.path}", headers=headers)


def _query(cls: type[msgspec.Struct]) -> msgspec.Struct:
    """The query parameters, each at most once unless its type is a list."""
    parameters = dict(request.args.lists())
    known = _parameters(cls)
    values = {name: texts if known.get(name) else texts[0] for name, texts in parameters.items()}
    errors = [
        FieldError(error.detail, parameter=first_step(str(error.pointer)))
        for error in field_errors(cls, values, strict=False)
    ]
    errors += [
        FieldError("This may be given once only", parameter=name)
        for name, texts in parameters.items()
        if known.get(name) is False and len(texts) > 1
    ]
    if errors:
        raise Problem(400, "query-invalid", "the query parameters do not fit", errors=errors)
    try:
        return msgspec.convert(values, cls, strict=False)
    except msgspec.ValidationError as error:  # of all parameters together
        raise Problem(400, "query-invalid", str(error)) from error


@cache
def _parameters(cls: type[msgspec.Struct]) -> Mapping[str, bool]:
    """Whether each query parameter may be given several times."""
    return {
        field.encode_name: _is_list(msgspec.inspect.type_info(field.type))
        for field in msgspec.structs.fields(cls)
    }


def _is_list(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.UnionType(types):
            return any(map(_is_list, types))
        case msgspec.inspect.Metadata(inner):
            return _is_list(inner)
    return isinstance(kind, msgspec.inspect.CollectionType | msgspec.inspect.TupleType)


def _position(read: Read, shop: Shop) -> int:
    if read.projection is None:
        return shop.store.head()
    return shop.progress[read.projection].position


def _committed(read: Read, shop: Shop) -> int:
    """The position that the stored models must have, as far as this process knows."""
    return shop.progress[read.projection].committed if read.projection else 0


def _await(wanted: int, read: Read, shop: Shop, waits: Waits) -> None:
    """Wait until what the client has seen elsewhere can be read here."""
    if _position(read, shop) >= wanted:
        return
    projection = read.projection

    def wait(seconds: float) -> bool:
        if projection is None:
            return shop.wait_for_log(wanted, seconds)
        return shop.wait_for(wanted, seconds, projections=[projection])

    if not waits.wait(wait, preferred_wait(request.environ) or 0.0):
        raise _not_reached(wanted)


def _not_reached(wanted: int) -> Problem:
    detail = f"position {wanted} is not reached yet"
    return Problem(503, "position-not-reached", detail, headers=RETRY_AFTER)
