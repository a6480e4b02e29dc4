"""The application that settings name."""

from __future__ import annotations

from importlib import import_module
from itertools import takewhile
from pathlib import Path
from traceback import TracebackException

from shop.application.application import Application
from shop.config import ConfigurationError, Settings

_ON_THE_WAY = (__file__, import_module.__code__.co_filename, "<frozen importlib")
"""How the files begin whose frames lead to an author's module."""


def application_of(settings: Settings) -> Application:
    """The application that settings name.

    Raises :class:`ConfigurationError` where there is none of that name, or it cannot be made: then
    with the traceback.
    """
    try:
        return _named_application(settings)
    except ConfigurationError:
        raise
    except Exception as error:  # whatever an author's module raises
        raise _no_application(f"{settings.application} cannot be used:\n{_told(error)}") from error


def _named_application(settings: Settings) -> Application:
    path, _, name = settings.application.partition(":")
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):  # something that the module imports
            raise
        raise _no_application(
            f"there is no module {error.name}, neither installed nor in {Path.cwd()} (PYTHONPATH"
            " names other directories)"
        ) from error
    if not hasattr(module, name):
        raise _no_application(f"the module {path} has no {name}")
    named = getattr(module, name)
    application = named(settings) if callable(named) else named
    if not isinstance(application, Application):
        verb = "makes" if callable(named) else "is"
        raise _no_application(
            f"{settings.application} {verb} no Application but a {type(application).__name__}; it"
            " may also be a function that makes one of the settings"
        )
    return application


def _no_application(why: str) -> ConfigurationError:
    return ConfigurationError([f"SHOP_APPLICATION: {why}"])


def _told(error: Exception) -> str:
    """An error of an author's module, from the first line of theirs on that led to it."""
    told = TracebackException.from_exception(error)
    ours = takewhile(lambda frame: frame.filename.startswith(_ON_THE_WAY), told.stack)
    del told.stack[: len(list(ours))]
    return "".join(told.format()).rstrip()
