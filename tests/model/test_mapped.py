"""Models reach ONNX Runtime as files if they are large, in an order that keeps few weights in memory; the values of
their outputs do not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qdqgraph.model import mapped, weights_first
from qdqgraph.model.runtime import Session, available

pytestmark = pytest.mark.skipif(not available(), reason="needs onnxruntime")

SIDE = 256
TEXT = f"""<ir_version: 8, opset_import: ["" : 17], metadata_props: ["key" : "value"]>
g (float[1,{SIDE}] x) => (float[1,{SIDE}] y)
<float s = {{0.01}}, int8 z = {{0}}, int8[{SIDE},{SIDE}] w, int8[{SIDE},{SIDE}] v> {{
  wd = DequantizeLinear (w, s, z)  a = MatMul (x, wd)  b = Relu (a)
  vt = Transpose <perm = [1, 0]> (v)  vd = DequantizeLinear (vt, s, z)  y = MatMul (b, vd)
}}"""


@pytest.fixture
def model() -> onnx.ModelProto:
    made = onnx.parser.parse_model(TEXT)
    random = np.random.default_rng(0)
    for name in ("w", "v"):
        array = random.integers(-127, 128, (SIDE, SIDE)).astype(np.int8)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


def output(model: onnx.ModelProto) -> bytes:
    (y,) = Session(model, Path()).run([{"x": np.linspace(-1, 1, SIDE, dtype=np.float32)[None]}])[0]
    return bytes(y.tobytes())


def test_a_large_model_is_mapped_and_computes_the_same(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, before = output(model), model.SerializeToString()
    monkeypatch.setattr(mapped, "HEAVY", 1 << 10)
    monkeypatch.setattr(mapped, "LARGE", 1 << 10)
    with mapped.mapped(model, Path()) as (data, folder):
        seen = onnx.ModelProto.FromString(data)
        external = [t for t in seen.graph.initializer if t.external_data]
        assert [t.name for t in external] == ["w", "v"] and len(data) < 2000
        for tensor in external:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor, str(folder)), tensor.name))
        assert seen == model
    assert not folder.exists()
    assert output(model) == expected and model.SerializeToString() == before


def test_a_small_model_is_not_written(model: onnx.ModelProto) -> None:
    with mapped.mapped(model, Path("here")) as (data, folder):
        assert data == model.SerializeToString() and folder == Path("here")


def test_what_large_weights_take_is_said() -> None:
    large = onnx.ModelProto()
    large.graph.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1 << 15, 1 << 15])
    assert mapped.memory_note(large) == ", which takes up to 4.3 GB for the weights"
    large.graph.initializer[0].dims[:] = [2, 2]
    assert mapped.memory_note(large) == ""


def test_weights_come_first(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = output(model)
    assert weights_first.weights_first(model) is model  # small
    monkeypatch.setattr(weights_first, "MANY", 1 << 10)
    sorted_model = weights_first.weights_first(model)
    assert [n.output[0] for n in sorted_model.graph.node] == ["wd", "vt", "vd", "a", "b", "y"]
    assert weights_first.weights_first(sorted_model) is sorted_model
    assert output(model) == expected
