"""The JSON schema of a typed form: editors use it for completion, `faults` for error messages."""

from __future__ import annotations

from typing import Any

import msgspec

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft with the best support in TOML editors."""
ABSENT: tuple[object, ...] = ("", (), {})
"""Defaults that mean an absent key: an editor must not write them."""


def schema(form: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a form; its docstring is the title."""
    _, parts = msgspec.json.schema_components([form], ref_template="#/definitions/{name}")
    for part in parts.values():
        part["title"] = part.pop("description", part["title"])
        for entry in part.get("properties", {}).values():
            if entry.get("default") in ABSENT:
                del entry["default"]
    top = parts.pop(form.__name__)
    return {"$schema": DRAFT, **top, **({"definitions": parts} if parts else {})}
