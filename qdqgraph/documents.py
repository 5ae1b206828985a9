"""The JSON documents that the commands print with `--json`: each names its schema and the version of its format.

The schemas are in `qdqgraph/report/schemas`, generated from the types of the documents by `qdqgraph.report.documents`.
Later versions of qdqgraph may add keys under the same number: programs must ignore keys that they do not know. A key
that is removed or renamed, or gets another meaning, raises the number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

SCHEMA: Final = "schema"
"""The first key of each document: the `$id` of its schema."""
VERSIONS: Final[Mapping[str, int]] = {
    "diff": 1,
    "engine": 1,
    "engine-diff": 1,
    "engine-time": 1,
    "error": 1,
    "error-as": 1,
    "findings": 1,
    "result": 1,
    "rule": 1,
    "rules": 1,
    "sensitivity": 1,
    "tune": 1,
    "tune-status": 1,
    "why": 1,
}
"""The version of each document, by its name."""


def identifier(name: str) -> str:
    """Returns the `$id` of the schema of a document: `urn:qdqgraph:findings:1`."""
    return f"urn:qdqgraph:{name}:{VERSIONS[name]}"


def document(name: str, content: Mapping[str, Any]) -> str:
    """Returns a document as JSON in ASCII, indented by one space per level; `schema` is its first key."""
    return json.dumps({SCHEMA: identifier(name), **content}, indent=1)
