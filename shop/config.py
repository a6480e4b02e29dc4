"""Configuration: read once from the environment, checked as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from shop.urls import BUSES, STORES, checked_url, redacted

ROLES = ("all", "web", "worker")
CORES = ("one", "all")

_MAX_SECONDS = 10 * 366 * 24 * 3600  # so that what is due then has a date


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
    """What this process does: ``web`` serves HTTP, ``worker`` the rest, ``all`` both."""
    cores: str = "one"
    """Which cores it runs on while it serves: on ``one``, which is the fastest, or on ``all``."""
    application: str = "shop.bootstrap:shop_application"
    """What runs, as ``module:name``: an application, or a function that makes it of settings."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from an environment.

        A value may be given in a file, named by ``SHOP_<FIELD>_FILE``. Raises
        :class:`ConfigurationError` with everything that is wrong.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        bad: set[str] = set()
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
            field = known[name]
            try:
                values[field] = _PARSERS[field](value if name == variable else read_value(value))
            except ValueError as error:
                problems.append(f"{variable}: {error}")
                bad.add(field)
        values.setdefault("model_store", values.get("event_store", cls().event_store))
        settings = cls(**values)
        unfit = settings._unfit_for_role()
        problems += [problem for field, problem in unfit.items() if field not in bad]
        if problems:
            raise ConfigurationError(problems)
        return settings

    def check_role(self) -> None:
        """Raise :class:`ConfigurationError` where processes of this role could not work together.

        One that serves HTTP alone needs others, and they need what both can reach.
        """
        problems = list(self._unfit_for_role().values())
        if problems:
            raise ConfigurationError(problems)

    def _unfit_for_role(self) -> Mapping[str, str]:
        """What is wrong, by field."""
        if self.role == "all":
            return {}
        return {
            field: f"SHOP_{field.upper()}: it is {url}, which is in the memory of one process"
            f" alone; with SHOP_ROLE={self.role} {why}"
            for field, url, why in (
                ("event_bus", self.event_bus, "commands go over NATS: nats://HOST:4222"),
                ("event_store", self.event_store, "other processes use it as well"),
                ("model_store", self.model_store, "other processes use it as well"),
            )
            if url == "memory://"
        }

    def __repr__(self) -> str:
        """Without passwords: it may come into a log or a traceback."""
        return f"Settings({', '.join(self.lines())})"

    def lines(self) -> list[str]:
        """The settings as lines of ``SHOP_<FIELD>=<value>``, with passwords blotted out."""
        values = {field: getattr(self, field) for field in self.__struct_fields__}
        return [f"SHOP_{field.upper()}={redacted(str(v))}" for field, v in values.items()]


def read_value(path: str) -> str:
    """The value that a file holds. Raises ``ValueError`` where it cannot be read, with the path."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not UTF-8") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError("it is no number of seconds, such as 1800") from None
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(f"it is no number of seconds from more than 0 to {_MAX_SECONDS}")
    return seconds


def _one_of(text: str, *, choices: Sequence[str]) -> str:
    if text not in choices:
        raise ValueError(f"it is none of: {', '.join(choices)}")
    return text


def _module_and_name(text: str) -> str:
    module, _, name = text.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError("it is no module:name, such as notes:APPLICATION")
    return text


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "event_store": partial(checked_url, schemes=STORES),
    "model_store": partial(checked_url, schemes=STORES),
    "event_bus": partial(checked_url, schemes=BUSES),
    "payment_deadline": _positive_seconds,
    "role": partial(_one_of, choices=ROLES),
    "cores": partial(_one_of, choices=CORES),
    "application": _module_and_name,
}
