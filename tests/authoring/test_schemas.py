"""The JSON schemas in the package are those of the types that read the files."""

import json
from pathlib import Path

import jsonschema
import pytest

from qdqgraph.authoring.schemas import SCHEMAS, schema_text
from qdqgraph.engines.read.saved import open_engine, to_json
from tests.support.paths import DATA


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_the_schema_in_the_package_is_up_to_date(path: Path) -> None:
    said = "run: python -m qdqgraph.authoring.schemas"
    assert path.read_text(encoding="utf-8") == schema_text(SCHEMAS[path]), said


def schema(name: str) -> object:
    return json.loads(next(path for path in SCHEMAS if path.name == name).read_text(encoding="utf-8"))


def test_a_plan_and_an_engine_keep_to_their_schemas() -> None:
    plan = json.loads((DATA / "plan.json").read_text())
    engine = json.loads(to_json(open_engine(DATA / "qat.graph.json", profile=DATA / "qat.profile.json")))
    jsonschema.validate(plan, schema("plan.schema.json"))
    jsonschema.validate(engine, schema("engine.schema.json"))
    for content, name in ((plan["edits"][0], "plan.schema.json"), (engine["layers"][0], "engine.schema.json")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content, schema(name))
