"""Weights that are measured stay in files, and few of them are in memory at once; the values do not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.calibration.statistics.measure import measure
from qdqgraph.calibration.statistics.segments import segments
from qdqgraph.calibration.weights import scales
from qdqgraph.model import runtime
from qdqgraph.model.writing.spill import spilling

SIDE = 256
TEXT = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[1,{SIDE}] x) => (float[1,{SIDE}] y)
<float s = {{0.01}}, int8 z = {{0}}, int8[{SIDE},{SIDE}] w, int8[{SIDE},{SIDE}] v> {{
  q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
  wd = DequantizeLinear (w, s, z)  vt = Transpose <perm = [1, 0]> (v)  vd = DequantizeLinear (vt, s, z)
  a = MatMul (d, wd)  b = MatMul (a, vd)  y = MatMul (b, wd)
}}"""


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    """Two INT8 weights in a file beside the model."""
    made, random = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    with (tmp_path / "data").open("wb") as data:
        for name in ("w", "v"):
            array = random.integers(-127, 128, (SIDE, SIDE)).astype(np.int8)
            tensor = made.graph.initializer.add(name=name, data_type=onnx.TensorProto.INT8, dims=array.shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", "data"), ("offset", data.tell()), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            data.write(array.tobytes())
    return made


def in_memory(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor, str(folder)), tensor.name))
    return made


def test_the_float_weights_of_stored_integers_are_in_the_file_of_the_call(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    reference = helper.make_model(helper.make_graph([], "reference", [], [], []))
    for name in ("w", "v"):
        stored = next(t for t in model.graph.initializer if t.name == name)
        array = numpy_helper.to_array(stored, str(tmp_path)) * np.float32(0.01) + np.float32(0.001)
        reference.graph.initializer.append(numpy_helper.from_array(array, f"{name} before"))
    plain = float_model(in_memory(model, tmp_path), tmp_path, reference=reference)
    with spilling(model, tmp_path, tmp_path / "out.onnx"):
        found = float_model(model, tmp_path, reference=reference)
        weights = [t for t in found.model.graph.initializer if t.name in found.weights]
        assert len(weights) == 2 and all(t.external_data and not t.raw_data for t in weights)
        values = found.matched()
        assert list(values) == ["wd", "vd"] and len(values) == 2 and "w" not in values
        assert all(np.array_equal(values[name], array) for name, array in plain.matched().items())
        assert found.digest == plain.digest
        data = samples_of([{"x": np.linspace(-1, 1, SIDE, dtype=np.float32)[None]}], model)
        assert measure(found, data).amax == measure(plain, data).amax
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_weights_are_dequantized_just_before_the_first_layer_that_reads_them(model: onnx.ModelProto) -> None:
    types = dict.fromkeys(("d", "a", "b", "y"), onnx.TensorProto.FLOAT) | {"q": onnx.TensorProto.INT8}
    (part,) = segments(model, ["y"], dict.fromkeys(types, 1), types, 1 << 20)
    assert [n.output[0] for n in part.model.graph.node] == ["q", "d", "wd", "a", "vt", "vd", "b", "y"]


def test_a_network_with_large_weights_runs_without_a_copy_of_them(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, options = list[bool](), runtime.session_options

    def noted(folder: Path, *, packed: bool = True) -> Any:
        asked.append(packed)
        return options(folder, packed=packed)

    monkeypatch.setattr(runtime, "session_options", noted)
    network = float_model(model, tmp_path)
    data = samples_of([{"x": np.linspace(-1, 1, SIDE, dtype=np.float32)[None]}], model)
    usual = measure(network, data).amax
    monkeypatch.setattr(runtime, "HEAVY", 2 * SIDE * SIDE * 4)
    found = measure(network, data).amax
    assert asked == [True, False]
    assert found == pytest.approx(usual, rel=1e-5)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_the_scales_of_a_large_layer_are_those_of_the_least_error(
    axis: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = np.random.default_rng(0).standard_t(2, size=(40, 30, 9)).astype(np.float32)
    own = np.full(() if axis is None else weights.shape[axis], 0.5, np.float32)
    whole = scales.least_squares(weights, axis, own)
    monkeypatch.setattr(scales, "LARGE", 1000)
    monkeypatch.setattr(scales, "BLOCK", 700)
    assert np.array_equal(scales.least_squares(weights, axis, own), whole) and (whole != own).any()
