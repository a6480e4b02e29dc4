"""Wire names: which class a stored or received payload is decoded into.

Events and commands are plain typed structs. Each class carries the name under which it travels and
the version of its schema; a :class:`Registry` maps names to classes. An application holds one
registry for its events and another for its commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from shop.eventsourcing.errors import PayloadError, UnregisteredError

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the JSON object of one schema version into that of the next. It may change its argument."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class WireFormat(msgspec.Struct, frozen=True):
    """How a payload class travels: its name, its schema version, and how older ones are read."""

    name: str
    version: int = 1
    upcasters: Mapping[int, Upcaster] = {}

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(str(self.name)):
            raise ValueError(
                f"{self.name!r} is no wire name: that is lower-case words joined by dots"
            )
        if type(self.version) is not int or self.version < 1:
            raise ValueError(
                f"the version of {self.name} is a number from 1 on, not {self.version!r}"
            )
        outside = [version for version in self.upcasters if version not in range(1, self.version)]
        if outside:
            raise ValueError(
                f"{self.name} is version {self.version}: it has no use for upcasters from {outside}"
            )


class Payload(msgspec.Struct, frozen=True):
    """Base of everything that travels under a wire name. Subclasses are immutable."""

    wire: ClassVar[WireFormat]


P = TypeVar("P", bound=Payload)


def check_payload(cls: type, base: type[Payload]) -> None:
    """Raise ``TypeError`` for a class that is to travel and is no kind of payload."""
    if not issubclass(cls, base):
        raise TypeError(
            f"{cls.__qualname__} is no {base.__name__}: class"
            f" {cls.__name__}({base.__name__}, frozen=True)"
        )


def check_named(mark: str, classes: Sequence[object], base: type[Payload]) -> None:
    """Raise ``TypeError`` unless a mark for methods is given classes that travel."""
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise TypeError(f"@{mark} takes classes of {base.__name__}, not {cls!r}")
        if not hasattr(cls, "wire"):
            decorator = base.__name__.removesuffix("Data").removesuffix("Payload").lower()
            raise TypeError(f"{cls.__qualname__} has no wire name: decorate it with @{decorator}")
    if not classes:
        raise TypeError(f"@{mark} takes at least one class of {base.__name__}")


class Registry(Generic[P]):
    """Payload classes by wire name. Fill it before it is shared: reading it is thread-safe."""

    def __init__(self, classes: Iterable[type[P]] = ()) -> None:
        self._classes: dict[str, type[P]] = {}
        self._decoders: dict[tuple[str, int], Callable[[bytes | str], P]] = {}
        for cls in classes:
            self.add(cls)

    def add(self, cls: type[P]) -> None:
        """Register a class. Raises ``ValueError`` where its name is taken by another class."""
        wire = getattr(cls, "wire", None)
        if wire is None:
            raise ValueError(f"{cls.__qualname__} has no wire name: decorate it")
        if self._classes.setdefault(wire.name, cls) is not cls:
            taken = self._classes[wire.name].__qualname__
            raise ValueError(f"{wire.name} is registered for {taken} already")
        self._decoders[wire.name, wire.version] = msgspec.json.Decoder(cls).decode

    def __iter__(self) -> Iterator[type[P]]:
        return iter(self._classes.values())

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def __getitem__(self, name: str) -> type[P]:
        """The class of a name. Raises :class:`UnregisteredError` where there is none."""
        try:
            return self._classes[name]
        except KeyError:
            raise UnregisteredError(name) from None

    def encode(self, payload: P) -> bytes:
        """The payload as JSON, which :meth:`decode` is sure to read.

        Raises :class:`PayloadError` where its class is not registered (:class:`UnregisteredError`
        where none is of its name), or its fields do not have the types and constraints that the
        class declares: structs do not check that themselves.
        """
        wire = payload.wire
        if self[wire.name] is not type(payload):
            raise PayloadError(wire.name, f"{type(payload).__qualname__} is not its class here")
        try:
            data = msgspec.json.encode(payload)
        except (TypeError, ValueError, OverflowError) as error:
            raise PayloadError(wire.name, f"it cannot be encoded: {error}") from error
        self.decode(wire.name, wire.version, data)
        return data

    def decode(self, name: str, version: int, data: bytes | str) -> P:
        """The payload that was encoded as JSON under this name and schema version.

        Raises :class:`PayloadError` where the name is unknown, the version is newer than the
        class or has no upcaster, or the data does not fit.
        """
        decoder = self._decoders.get((name, version))
        try:
            if decoder is not None:
                return decoder(data)
            self._check_version(name, version)
            return self.convert(name, version, msgspec.json.decode(data, type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise payload_error(name, error) from error

    def convert(self, name: str, version: int, fields: dict[str, Any]) -> P:
        """As :meth:`decode`, from a dict of JSON values; UUIDs and times may be native (BSON)."""
        self._check_version(name, version)
        cls = self[name]
        try:
            for step in range(version, cls.wire.version):
                fields = cls.wire.upcasters[step](fields)
            return msgspec.convert(fields, cls, str_keys=True)  # JSON has no other keys
        except msgspec.ValidationError as error:
            raise payload_error(name, error) from error
        except Exception as error:  # an upcaster may raise whatever it likes
            raise PayloadError(
                name, f"upcasting from schema version {version} failed: {error!r}"
            ) from error

    def unreadable(self, kinds: Iterable[tuple[str, int]]) -> list[str]:
        """Which of these (name, schema version) cannot be decoded, each with the reason."""
        reasons = []
        for name, version in sorted(kinds):
            try:
                self._check_version(name, version)
            except PayloadError as error:
                reasons.append(f"{name} version {version}: {error.reason}")
        return reasons

    def _check_version(self, name: str, version: int) -> None:
        wire = self[name].wire
        if version < 1:
            raise PayloadError(name, f"schema versions begin at 1, not {version}")
        if version > wire.version:
            raise PayloadError(
                name, f"schema version {version} is newer than this program's, {wire.version}"
            )
        gaps = (step for step in range(version, wire.version) if step not in wire.upcasters)
        gap = next(gaps, None)
        if gap is not None:
            raise PayloadError(name, f"no upcaster from schema version {gap} to {gap + 1}")


def payload_error(name: str, error: msgspec.DecodeError | UnicodeDecodeError) -> PayloadError:
    """Translate msgspec's error, turning its ``$.items[0].name`` into ``/items/0/name``."""
    reason, _, path = str(error).partition(" - at `")
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", path.removeprefix("$"))
    pointer = "".join("/" + (key or index) for key, index in steps)
    return PayloadError(name, reason, pointer)
