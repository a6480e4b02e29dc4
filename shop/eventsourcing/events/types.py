"""Types of arguments, where a wrong one would be noticed too late."""

from __future__ import annotations

from uuid import UUID


def check_types(wanted: type, *, optional: bool = False, **arguments: object) -> None:
    """Raise ``TypeError`` for an argument, by its name, of another type than is wanted."""
    for name, value in arguments.items():
        if optional and value is None:
            continue
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            hint = f": UUID({value!r}) makes one" if wanted is UUID and _is_uuid(value) else ""
            raise TypeError(f"{name} must be of type {wanted.__name__}, not {value!r}{hint}")


def _is_uuid(value: object) -> bool:
    """Whether it is the text of a UUID."""
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False
