"""The parameters of URLs: what follows the question mark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from shop.urls.redaction import SECRETS

_WORD = re.compile(r"[A-Za-z0-9_]+")

Parsers = Mapping[str, Callable[[str, str], Any]]
"""By the name of a parameter: what parses its value, given both, or raises ``ValueError``."""


def take_parameters(query: str, parsers: Parsers) -> tuple[dict[str, Any], list[str]]:
    """The values of known parameters by name, and the other parameters as they are."""
    ours: dict[str, Any] = {}
    others = []
    for parameter in filter(None, query.split("&")):
        name, _, value = parameter.partition("=")
        if name not in parsers:
            others.append(parameter)
        elif name in ours:
            raise ValueError(f"it has the parameter {name} twice")
        else:
            ours[name] = parsers[name](name, unquote(value))
    return ours, others


def unknown_parameter(
    parameter: str, query: str, ours: Iterable[str], drivers: Iterable[str] = (), rest: str = ""
) -> str:
    """What is wrong with the first parameter that is not known.

    It is named only where it can be no piece of a password that should have been percent-encoded:
    one that stands before an @, or is itself a parameter.
    """
    known = f"known: {', '.join(ours)}{rest}"
    name = parameter.partition("=")[0]
    before = f"&{query}&".partition(f"&{parameter}&")[0]
    if "@" in query or re.search(SECRETS, before, re.IGNORECASE) or not _WORD.fullmatch(name):
        return f"it has an unknown parameter; {known}"
    near = get_close_matches(name.lower(), [*ours, *drivers], n=1)
    hint = f": is it meant to be {near[0]}?" if near else f"; {known}"
    return f"it has an unknown parameter {name}{hint}"


def matching(pattern: re.Pattern[str], what: str) -> Callable[[str, str], str]:
    """A parser of what matches a pattern, which ``what`` puts into words."""

    def parse(parameter: str, text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"its parameter {parameter} must be {what}")
        return text

    return parse


def on_or_off(parameter: str, text: str) -> bool:
    """A parser: ``on`` is true and ``off`` false."""
    if text not in {"on", "off"}:
        raise ValueError(f"its parameter {parameter} must be on or off")
    return text == "on"


def file_path(parameter: str, text: str) -> Path:
    """A parser of paths."""
    if not text:
        raise ValueError(f"its parameter {parameter} must be the path of a file")
    return Path(text)


def whole_number(minimum: int, maximum: int) -> Callable[[str, str], int]:
    """A parser of whole numbers from a minimum to a maximum."""

    def parse(parameter: str, text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise ValueError(
                f"its parameter {parameter} must be a number from {minimum} to {maximum}"
            )
        return int(text)

    return parse


def seconds(maximum: float) -> Callable[[str, str], float]:
    """A parser of durations from 0.1 seconds to a maximum."""

    def parse(parameter: str, text: str) -> float:
        try:
            duration = float(text)
        except ValueError:
            duration = 0.0
        if not 0.1 <= duration <= maximum:
            raise ValueError(
                f"its parameter {parameter} must be seconds, from 0.1 to {maximum:.0f}"
            )
        return duration

    return parse
