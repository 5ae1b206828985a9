"""Generates the JSON schemas of rule files and plans in the package from the types that read them.

`python -m qdqgraph.authoring.schemas` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ..repair import plan_file
from ..rulekit.text import form
from ..toml.schema import schema

SCHEMAS: Mapping[Path, type[msgspec.Struct]] = {
    form.SCHEMA: form.RuleForm,
    plan_file.SCHEMA: plan_file.PlanForm,
}


def schema_text(form: type[msgspec.Struct]) -> str:
    """Returns the schema of a file format as JSON text."""
    return json.dumps(schema(form), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, form_of_file in SCHEMAS.items():
        path.write_text(schema_text(form_of_file), encoding="utf-8")
