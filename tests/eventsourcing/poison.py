"""Messages of strangers: JSON that may have anything where something else should be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

_MARK = "the place"
_ROOT = ""
_NUMBERS = [10**6, 10**18, 2**63, 2**64, 10**30]

_VALUES: st.SearchStrategy[str] = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ).map(json.dumps),
    st.sampled_from([str(sign * number) for number in _NUMBERS for sign in (1, -1)]),
    st.sampled_from(["1e308", "1e400", "-0", "9" * 5000, '"\\ud800"', '"\\u0000"']),
    st.sampled_from(
        ['"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', '"2026-01-01T00:00:00"']
    ),
    st.sampled_from([10, 1_000, 100_000]).map(lambda depth: "[" * depth + "]" * depth),
)


def poisoned(message: bytes) -> st.SearchStrategy[bytes]:
    """The message with any value in the place of one of its own, or of the whole, or beside it."""

    def put(place: tuple[str, ...], value: str) -> bytes:
        root = {_ROOT: json.loads(message)}
        inner: Any = root
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = _MARK
        return json.dumps(root[_ROOT]).replace(json.dumps(_MARK), value).encode()

    return st.builds(put, st.sampled_from(list(_places(json.loads(message), _ROOT))), _VALUES)


def _places(value: object, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(value, dict):
        yield (*path, "unknown")
        for name, member in value.items():
            yield from _places(member, *path, name)
