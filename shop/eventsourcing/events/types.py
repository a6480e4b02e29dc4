"""Types of arguments, where a wrong one would be noticed too late."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from uuid import UUID

_LAZY = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def check_types(wanted: type, *, optional: bool = False, **arguments: object) -> None:
    """Raise ``TypeError`` for an argument, by its name, of another type than is wanted."""
    for name, value in arguments.items():
        if not (optional and value is None):
            _check(name, value, wanted)


def check_collection(name: str, values: Collection[object], wanted: type) -> None:
    """Raise ``TypeError`` for what is no collection, such as one string or a generator, and for
    values of another type than is wanted.
    """
    if isinstance(values, str) or not isinstance(values, Collection):
        raise TypeError(f"{name} takes a collection, such as a list, not {values!r}")
    for value in values:
        _check(name, value, wanted)


def check_signature(function: Callable[..., object], *arguments: str, **named: str) -> None:
    """Raise ``TypeError`` for a function that cannot be called with these arguments.

    Nor is one taken that would only return a coroutine or a generator. The arguments stand for
    those that it will get: they are what the error calls them.
    """
    name = getattr(function, "__qualname__", repr(function))
    if any(is_lazy(function) for is_lazy in _LAZY):
        raise TypeError(
            f"{name} would do nothing when called: it must be no async def or generator"
        )
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:  # one written in C need not tell
        return
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        wanted, taken = ", ".join((*arguments, *named)), ", ".join(signature.parameters)
        raise TypeError(
            f"{name} is to be called with ({wanted}), and takes ({taken}): {error}"
        ) from error


def _check(name: str, value: object, wanted: type) -> None:
    if isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return
    hint = f": UUID({value!r}) makes one" if wanted is UUID and _is_uuid(value) else ""
    raise TypeError(f"{name} must be of type {wanted.__name__}, not {value!r}{hint}")


def _is_uuid(value: object) -> bool:
    """Whether it is the text of a UUID."""
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False
