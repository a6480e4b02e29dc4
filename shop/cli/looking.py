"""Commands that look at a shop, and so must never make one where there is none."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shop.config import Settings
from shop.process import EXIT_FAILED, fail
from shop.urls import sqlite_path


def settings_of(environ: Mapping[str, str], *stores: str) -> Settings:
    """The settings, once the files of these stores are known to be there.

    ``stores`` are names of settings. Ends the process where a file cannot be found, saying where
    it was looked for. The role is always ``all``: what the shop's processes leave to one another,
    a command does itself.
    """
    settings = msgspec.structs.replace(Settings.from_env(environ), role="all")
    for store in stores:
        must_exist(getattr(settings, store), f"SHOP_{store.upper()}")
    return settings


def must_exist(url: str, where: str) -> None:
    """End the process unless the file of a store is there, if it is a file.

    ``where`` names what the URL was taken from.
    """
    if not url.startswith("sqlite:"):
        return
    path = sqlite_path(url).absolute()
    try:
        path.stat()
    except PermissionError:
        fail(f"cannot look for the database {path}: this user may not", EXIT_FAILED)
    except OSError as error:
        fail(
            f"cannot find the database {path}: {error.strerror}\n"
            f"`python -m shop serve` makes it there; {where} says where to look instead, such as"
            " sqlite:////var/lib/shop/shop.db",
            EXIT_FAILED,
        )
