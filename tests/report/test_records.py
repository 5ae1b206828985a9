"""JSON for programs: recorded documents, and numbers that are not finite. Their schemas: `test_documents`."""

import json
import re
from pathlib import Path

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

COMMANDS = {
    "findings": ["check", "model.onnx", "--json", "--no-config"],
    "result": ["fix", "model.onnx", "--dry-run", "--no-numerics", "--json", "--no-config"],
    "engine-diff": ["engine", "diff", str(DATA / "qat.graph.json"), str(DATA / "qat-residual.graph.json"), "--json"],
    "engine-time": ["engine", "time", str(DATA / "qat.graph.json"), str(DATA / "qat-residual.graph.json"), "--json"],
}
"""The documents whose numbers do not depend on the processor."""


@pytest.mark.parametrize("document", COMMANDS)
def test_a_document_is_printed_as_it_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], document: str
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(MODEL), "model.onnx")
    main(COMMANDS[document])
    recorded = (DATA / "records" / f"{document}.json").read_text(encoding="utf-8")
    assert re.sub(r'"[0-9a-f]{64}"', '"SHA-256"', capsys.readouterr().out) == recorded


def test_numbers_that_are_not_finite_are_null() -> None:
    pytest.importorskip("onnxruntime")
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    result = qdqgraph.fix(model, numerics=True)
    assert result.numbers is not None and result.numbers.outputs["y"].sqnr == float("inf")
    said = json.loads(records.result_json("m.onnx", None, result))["numeric_check"]
    assert said["outputs"] == {"y": {"identical": True, "sqnr_db": None, "caveat": "", "floats": None}}
