"""The JSON schemas of rule files and plans are those of the types that read the files."""

import json
from pathlib import Path

import jsonschema
import pytest

from qdqgraph.authoring.schemas import SCHEMAS, schema_text
from tests.support.paths import DATA


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_the_schema_in_the_package_is_up_to_date(path: Path) -> None:
    said = "run: python -m qdqgraph.authoring.schemas"
    assert path.read_text(encoding="utf-8") == schema_text(SCHEMAS[path]), said


def schema(name: str) -> object:
    return json.loads(next(path for path in SCHEMAS if path.name == name).read_text(encoding="utf-8"))


def test_a_plan_keeps_to_its_schema() -> None:
    plan = json.loads((DATA / "plan.json").read_text())
    jsonschema.validate(plan, schema("plan.schema.json"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plan["edits"][0], schema("plan.schema.json"))
