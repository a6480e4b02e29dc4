"""The settings of NATS, apart from the package that uses them, which is slow to import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers are, and our credentials there. Credentials are never logged."""

    servers: Sequence[str]
    """Each ``HOST:PORT``; any of them will do."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    nkey_seed_file: Path | None = None
    """A file with the seed of an NKey, that begins with ``SU``."""
    tls: bool = False
    """Refuse servers without TLS. One that demands TLS gets it in any case."""
    tls_ca: Path | None = None
    """A file of the authorities to trust instead of the system's."""
    tls_cert: Path | None = None
    """Our certificate, with its key in the same file unless ``tls_key`` names one."""
    tls_key: Path | None = None


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the stream is to be like. One that is missing is made, a different one is changed."""

    name: str
    storage: str = "file"
    """``file`` or ``memory``."""
    replicas: int = 1
    max_age: float = 0.0
    """Seconds after which a message is dropped; 0 for never."""
    max_bytes: int = -1
    """How many bytes it holds before the oldest messages are dropped; -1 for no limit."""
