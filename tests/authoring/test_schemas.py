"""The JSON schemas in the package are those of the types that read the files."""

from pathlib import Path

import pytest

from qdqgraph.authoring.schemas import SCHEMAS, schema_text


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_the_schema_in_the_package_is_up_to_date(path: Path) -> None:
    said = "run: python -m qdqgraph.authoring.schemas"
    assert path.read_text(encoding="utf-8") == schema_text(SCHEMAS[path]), said
