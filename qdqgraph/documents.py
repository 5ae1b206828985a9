"""The JSON documents that the commands print with `--json`: each names its schema and the version of its format.

The schemas are in `qdqgraph/report/schemas`, generated from the types of the documents by `qdqgraph.report.documents`.
Later versions of qdqgraph may add keys under the same number: programs must ignore keys that they do not know. A key
that is removed or renamed, or gets another meaning, raises the number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

SCHEMA: Final = "schema"
"""The first key of each document: the `$id` of its schema."""
VERSIONS: Final[Mapping[str, int]] = {
    "applied": 1,
    "diff": 1,
    "engine": 2,
    "engine-diff": 2,
    "engine-time": 2,
    "error": 2,
    "error-as": 2,
    "findings": 2,
    "result": 2,
    "rule": 1,
    "rules": 1,
    "rules-test": 1,
    "sensitivity": 2,
    "torch": 1,
    "torch-sensitivity": 1,
    "tune": 2,
    "tune-status": 2,
    "why": 1,
}
"""The version of each document, by its name."""


def identifier(name: str) -> str:
    """Returns the `$id` of the schema of a document: `urn:qdqgraph:findings:1`."""
    return f"urn:qdqgraph:{name}:{VERSIONS[name]}"


def name_of(content: object) -> str:
    """Returns the name of a parsed document, by its first key; "" if it has none of ours."""
    words = str(content.get(SCHEMA, "")).split(":") if isinstance(content, Mapping) else []
    return words[2] if len(words) == 4 and words[:2] == ["urn", "qdqgraph"] else ""


def other_version(content: object, name: str) -> str:
    """Returns why a parsed document cannot be read as the one of this name; "" if name and version are right, or it
    names none."""
    found = str(content.get(SCHEMA, "")) if isinstance(content, Mapping) else ""
    if name_of(content) != name or found == identifier(name):
        return ""
    return f"it is {found[:60]}; this qdqgraph reads {identifier(name)}"


def document(name: str, content: Mapping[str, Any]) -> str:
    """Returns a document as JSON in ASCII, indented by one space per level; `schema` is its first key.

    Numbers that are not finite become null.
    """
    whole = {SCHEMA: identifier(name), **content}
    try:
        return json.dumps(whole, indent=1, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(whole), indent=1)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
