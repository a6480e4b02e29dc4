"""Kinds of command-line arguments."""

from __future__ import annotations

import argparse
import socket
from typing import TypeAlias

from shop.config import read_value
from shop.eventsourcing.events.ordinal import GREATEST
from shop.urls import STORES, checked_url

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where commands are added to a parser; argparse has no public name for it."""


def positive(text: str) -> int:
    """An integer from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def position(text: str) -> int:
    """A position in the log; 0 is before the first event."""
    number = int(text)
    if not 0 <= number <= GREATEST:
        raise argparse.ArgumentTypeError(f"{text} is no position")
    return number


def address(text: str) -> str:
    """``HOST:PORT`` of a host that there is; ``*`` stands for all addresses of this machine."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8080")
    try:
        socket.getaddrinfo(None if host == "*" else host.strip("[]"), port)
    except (OSError, UnicodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot listen on {text!r}: {error}") from error
    return text


def store_url(text: str) -> str:
    """The URL of a store, or ``@FILE`` for a file that holds it."""
    try:
        return checked_url(read_value(text[1:]) if text.startswith("@") else text, STORES)
    except ValueError as error:
        # What argparse says of a ValueError quotes the URL, with its password.
        raise argparse.ArgumentTypeError(str(error)) from error
