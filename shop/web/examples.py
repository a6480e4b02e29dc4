"""Examples of payloads, and of the ``curl`` commands that send them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

HOST = "localhost:8080"
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def example(schema: Mapping[str, Any], components: Mapping[str, Any], name: str = "text") -> Any:
    """A value that fits a JSON schema; texts that must match a pattern have examples in it.

    ``name`` is that of the field whose value it is.
    """
    if "$ref" in schema:
        return example(components[schema["$ref"].rpartition("/")[2]], components, name)
    if schema.get("examples"):
        return schema["examples"][0]
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            properties = schema.get("properties", {})
            return {name: example(properties[name], components, name) for name in required}
        case "array":
            return [example(schema["items"], components, name)]
        case "integer":
            return max(schema.get("minimum", 1), 1)
        case "string" if schema.get("format") == "uuid":
            return ID
        case _:
            return f"Some {name.replace('_', ' ')}"


def curl(path: str, payload: Any = None) -> str:
    """The command line that asks for a path, or sends a payload to it."""
    words = ["curl"]
    if payload is not None:
        words += ["--json", shlex.quote(msgspec.json.encode(payload).decode())]
    return " ".join([*words, f"{HOST}{path.replace('{id}', ID)}"])
