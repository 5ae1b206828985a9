"""JSON for programs: recorded documents, their schemas, and numbers that are not finite."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.report import records
from tests.support.models import build
from tests.support.paths import DATA

MODEL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,4,8,8] u, float[1,8,8,8] w)
    <float big = {0.5}, int8 three = {3}> {
    a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2)
    q = QuantizeLinear (x, s3, three) d = DequantizeLinear (q, s3, three) u = Sigmoid (d)
    c = t.conv4 (x, s4) p = t.pair (c, s1) e = Concat <axis = 1> (c, a) w = t.pair (e, big) }"""
"""One finding of each kind: a legality repair that loses bits, ties that are taken, a tie that the guard refuses."""

LEGAL = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = t.conv4 (x, s1) b = Softmax (a) y = t.conv4 (b, s2) }"

COMMANDS = {
    "findings": ["check", "model.onnx", "--json", "--no-config"],
    "result": ["fix", "model.onnx", "--dry-run", "--no-numerics", "--json", "--no-config"],
    "engine-diff": ["engine", "diff", str(DATA / "qat.graph.json"), str(DATA / "qat-residual.graph.json"), "--json"],
    "engine-time": ["engine", "time", str(DATA / "qat.graph.json"), str(DATA / "qat-residual.graph.json"), "--json"],
    "error": ["error", "model.onnx", "--data", "data.npz", "--json", "--no-config"],
    "error-as": ["error", "legal.onnx", "--as", "trt-10", "--data", "data.npz", "--json", "--no-config"],
}
RECORDED = [name for name in COMMANDS if not name.startswith("error")]
"""The documents whose numbers do not depend on the processor."""


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], document: str) -> str:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(MODEL), "model.onnx")
    if document.startswith("error"):
        pytest.importorskip("onnxruntime")
        onnx.save(build(LEGAL), "legal.onnx")
        np.savez("data.npz", x=np.random.default_rng(0).normal(0, 3, (2, 4, 8, 8)).astype(np.float32))
    main(COMMANDS[document])
    return capsys.readouterr().out


@pytest.mark.parametrize("document", RECORDED)
def test_a_document_is_printed_as_it_was_recorded(document: str, printed: str) -> None:
    recorded = (DATA / "records" / f"{document}.json").read_text(encoding="utf-8")
    assert re.sub(r'"[0-9a-f]{64}"', '"SHA-256"', printed) == recorded


@pytest.mark.parametrize("document", COMMANDS)
def test_a_document_fits_its_schema_and_nothing_else_does(document: str, printed: str) -> None:
    path = Path(records.__file__).parent / "schemas" / f"{document}.schema.json"
    schema = jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))
    content = json.loads(printed)
    schema.validate(content)
    for key in content:
        assert not schema.is_valid({name: value for name, value in content.items() if name != key}), key


@pytest.mark.parametrize("document", COMMANDS)
def test_a_document_with_more_keys_still_fits_the_schema(document: str, printed: str) -> None:
    """A later version may add keys, at every level, without another format number."""
    path = Path(records.__file__).parent / "schemas" / f"{document}.schema.json"
    schema = jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))

    def more(value: Any) -> Any:
        if isinstance(value, dict):  # keys of an object without `format` may be names of tensors
            known = {name: more(inner) for name, inner in value.items()}
            return known | {"added_later": 1} if "format" in value else known
        if isinstance(value, list):
            return [inner | {"added_later": 1} if isinstance(inner, dict) else inner for inner in map(more, value)]
        return value

    schema.validate(more(json.loads(printed)))


def test_the_shipped_schemas_are_those_of_the_types() -> None:
    for path, text in records.schemas().items():
        assert path.read_text(encoding="utf-8") == text, "run: python -m qdqgraph.report.records"


def test_numbers_that_are_not_finite_are_null() -> None:
    pytest.importorskip("onnxruntime")
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    result = qdqgraph.fix(model, numerics=True)
    assert result.numbers is not None and result.numbers.outputs["y"].sqnr == float("inf")
    said = json.loads(records.result_json("m.onnx", None, result))["numeric_check"]
    assert said["outputs"] == {"y": {"identical": True, "sqnr_db": None, "caveat": "", "floats": None}}
