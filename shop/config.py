"""Configuration: read once from the environment, checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

STORES = ("memory", "sqlite")
BUSES = ("memory",)
ROLES = ("all",)


class ConfigurationError(Exception):
    """Some of the configuration is wrong; ``problems`` has a line for each bad value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("bad configuration:\n" + "\n".join(f"  {line}" for line in problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True):
    """What can be configured. Each field is read from the variable ``SHOP_<FIELD>``."""

    event_store: str = "sqlite:///shop.db"
    """URL of the event store."""
    model_store: str = ""
    """URL of the store of read models, checkpoints and snapshots; by default the event store's."""
    event_bus: str = "memory://"
    """URL of the event bus."""
    payment_deadline: float = 1800.0
    """Seconds from placing an order to its cancellation when it is not paid."""
    role: str = "all"
    """What this process does."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from an environment.

        A value may be given in a file, named by ``SHOP_<FIELD>_FILE``. Raises
        :class:`ConfigurationError` with everything that is wrong.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        known = {f"SHOP_{field.upper()}": field for field in cls.__struct_fields__}
        for variable, value in sorted(environ.items()):
            if not variable.startswith("SHOP_") or variable.startswith("SHOP_TEST_"):
                continue
            name = variable if variable in known else variable.removesuffix("_FILE")
            if name not in known:
                problems.append(f"{variable}: there is no such setting; known: {', '.join(known)}")
                continue
            if name != variable and name in environ:
                problems.append(f"{variable}: {name} is set as well; set one of the two")
                continue
            try:
                text = (
                    value if name == variable else Path(value).read_text(encoding="utf-8").strip()
                )
                values[known[name]] = _PARSERS[known[name]](text)
            except (OSError, ValueError) as error:
                problems.append(f"{variable}: {error}")
        if problems:
            raise ConfigurationError(problems)
        values.setdefault("model_store", values.get("event_store", cls().event_store))
        return cls(**values)

    def lines(self) -> list[str]:
        """The settings as lines of ``SHOP_<FIELD>=<value>``, with passwords blotted out."""
        values = {field: getattr(self, field) for field in self.__struct_fields__}
        return [f"SHOP_{field.upper()}={redacted(str(v))}" for field, v in values.items()]


def redacted(text: str) -> str:
    """The text, with the passwords of all URLs in it blotted out.

    Rather too much than too little: a password that should have been percent-encoded may hold any
    character but a blank. A token for NATS stands alone in the place of the user.
    """
    text = re.sub(r"(://[^:/?#@\s]*:)\S*@", r"\1***@", text)
    text = re.sub(r"(\bnats\S*://)[^:/?#@\s]+@", r"\1***@", text)
    return re.sub(r"([?&]\w*(?:password|token)=)[^&\s'\"]*", r"\1***", text)


def _url(schemes: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
        except ValueError:  # whose message may quote the password
            raise ValueError(f"{redacted(text)!r} is no URL") from None
        if parts.scheme not in schemes:
            known = ", ".join(f"{scheme}://" for scheme in schemes)
            raise ValueError(f"{redacted(text)!r} is no URL of a kind known here: {known}")
        if parts.scheme == "sqlite" and (parts.netloc or parts.path in {"", "/"}):
            raise ValueError(f"{text!r} must be sqlite:///PATH, or sqlite:////PATH when absolute")
        return text

    return parse


def _positive_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{text!r} is no positive number of seconds")
    return seconds


def _role(text: str) -> str:
    if text not in ROLES:
        raise ValueError(f"{text!r} is none of: {', '.join(ROLES)}")
    return text


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "event_store": _url(STORES),
    "model_store": _url(STORES),
    "event_bus": _url(BUSES),
    "payment_deadline": _positive_seconds,
    "role": _role,
}
