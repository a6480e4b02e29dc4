"""Checks that stores exist, for commands that must not make them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import msgspec

from shop.config import Settings
from shop.process import EXIT_FAILED, EXIT_MISUSED, fail
from shop.stores import open_backend
from shop.urls import sqlite_path

_EXAMPLES = {
    "sqlite": "sqlite:////var/lib/shop/shop.db",
    "postgresql": "postgresql://shop@db.example.com/shop",
    "mongodb": "mongodb://shop@db.example.com/shop",
}


def settings_of(environ: Mapping[str, str], *stores: str) -> Settings:
    """The settings, once these stores are known to be there.

    ``stores`` are names of settings. Ends the process where a store cannot be found, saying where
    it was looked for. The role is always ``all``: a command does itself what processes with other
    roles leave to one another.
    """
    settings = msgspec.structs.replace(Settings.from_env(environ), role="all")
    for store in stores:
        must_exist(getattr(settings, store), f"SHOP_{store.upper()}")
    return settings


def must_exist(url: str, where: str) -> None:
    """End the process unless the store of a URL is there.

    ``where`` names what the URL was taken from. Raises what the store does when it cannot be asked.
    """
    if url == "memory://":
        fail(
            f"{where} is memory://, which is in the memory of the shop's own process: no other"
            " program can see it",
            EXIT_MISUSED,
        )
    missing = _missing_file(url) if url.startswith("sqlite:") else _missing_store(url)
    if missing:
        fail(
            f"cannot find the database {missing}\n"
            f"`python -m shop serve` makes it there; {where} says where to look instead, such as"
            f" {_EXAMPLES[url.partition(':')[0]]}",
            EXIT_MISUSED,
        )


def _missing_file(url: str) -> str | None:
    path = sqlite_path(url).absolute()
    try:
        path.stat()
    except PermissionError:
        fail(f"cannot look for the database {path}: this user may not", EXIT_FAILED)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _missing_store(url: str) -> str | None:
    with closing(open_backend(url)) as backend:
        return None if backend.exists() else f"{url}: there is no shop in it"
