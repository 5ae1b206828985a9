"""New weights of a model with external data go to a file while the repair runs, and to external data in the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qdqgraph
from qdqgraph.model.writing import steps
from qdqgraph.model.writing.spill import LARGE
from tests.support.writes import files

SIDE = 256
FLOAT = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[1,{SIDE}] x) => (float[1,{SIDE}] y)
<float s = {{0.01}}, int8 z = {{0}}, float[{SIDE},{SIDE}] w, float[{SIDE},{SIDE}] v> {{
  q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
  wq = QuantizeLinear (w, s, z)  wd = DequantizeLinear (wq, s, z)
  a = MatMul (d, wd)
  aq = QuantizeLinear (a, s, z)  ad = DequantizeLinear (aq, s, z)
  vq = QuantizeLinear (v, s, z)  vd = DequantizeLinear (vq, s, z)
  y = MatMul (ad, vd)
}}"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """model.onnx, whose two weights, 256 KiB each, are in model.data."""
    model = onnx.parser.parse_model(FLOAT)
    random = np.random.default_rng(0)
    for name in ("w", "v"):
        model.graph.initializer.append(numpy_helper.from_array(random.normal(size=(SIDE, SIDE)).astype("f"), name))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data")
    return tmp_path / "model.onnx"


def arrays(model: onnx.ModelProto, folder: Path) -> dict[str, bytes]:
    """The type, shape and bytes of every initializer."""
    found = {t.name: numpy_helper.to_array(t, str(folder)) for t in model.graph.initializer}
    return {name: f"{a.dtype} {a.shape} ".encode() + a.tobytes() for name, a in found.items()}


@pytest.mark.parametrize("options", [{"weights": "int8"}, {"fp16": True}])
@pytest.mark.parametrize("name", ["fixed.onnx", "apart/fixed.onnx"])
def test_new_weights_are_external_and_have_the_same_values(path: Path, name: str, options: dict[str, Any]) -> None:
    kept = qdqgraph.fix(path, **options).model  # in memory: nothing is written
    output = path.parent / name
    output.parent.mkdir(exist_ok=True)
    result = qdqgraph.fix(path, output=output, force=True, provenance=False, **options)
    model = onnx.load(output, load_external_data=False)
    assert model == result.model and model.ByteSize() < LARGE < kept.ByteSize()
    assert arrays(model, output.parent) == arrays(kept, path.parent)
    (data,) = (p for p in output.parent.iterdir() if p.name.startswith(f"{output.name}."))
    assert data.stat().st_size == 2 * SIDE * SIDE  # the weights of the result and nothing else
    assert not list(path.parent.rglob(".*"))


def test_the_plan_of_a_result_in_memory_leads_to_the_written_model(path: Path) -> None:
    original = onnx.load(path, load_external_data=False)
    result = qdqgraph.fix(path, output=path.parent / "fixed.onnx", weights="int8", provenance=False)
    assert result.plan.apply(original) == result.model
    assert result.plan.inverse().apply(result.model) == original


def test_a_plan_that_is_saved_contains_the_weights(path: Path) -> None:
    fixed, plan, again = (path.parent / name for name in ("fixed.onnx", "plan.json", "again.onnx"))
    qdqgraph.fix(path, output=fixed, plan=plan, weights="int8")
    assert sorted(p.name for p in path.parent.iterdir()) == ["fixed.onnx", "model.data", "model.onnx", "plan.json"]
    fixed.unlink()
    qdqgraph.apply(plan, path, output=again)
    assert again.stat().st_size > LARGE


def test_where_no_file_can_be_created_new_weights_stay_in_the_model(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = steps.create

    def refuse(file: Path) -> int:
        if ".weights." in file.name:
            raise PermissionError(13, "Permission denied")
        return create(file)

    monkeypatch.setattr(steps, "create", refuse)
    before = files(path.parent)
    output = path.parent / "fixed.onnx"
    result = qdqgraph.fix(path, output=output, weights="int8", provenance=False)
    assert result.model == qdqgraph.fix(path, weights="int8").model
    assert {name: data for name, data in files(path.parent).items() if name != output.name} == before


def test_a_result_that_is_not_written_needs_no_file(path: Path) -> None:
    before = files(path.parent)
    assert qdqgraph.strip(path, ["a"]).model.ByteSize() > 0
    assert qdqgraph.fix(path, weights="int8").model.ByteSize() > LARGE
    assert files(path.parent) == before
