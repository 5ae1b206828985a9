"""The same command on its own result changes no byte; another one repairs as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.cli.main import main
from qdqgraph.model.text import parse
from qdqgraph.repair.mark import RESULT
from tests.support.convolution import network, reals
from tests.support.graphs import nets
from tests.support.marks import unmarked
from tests.support.samples import uniform

FLOAT = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,6,6] x) => (float[1,2,6,6] y)
    <float[2,2,1,1] w = {0.31, -0.77, 0.53, 0.11}, float[2,2,1,1] v = {-1.3, 0.7, 0.09, 0.4}>
    {
        a = Conv (x, w)
        r = Relu (a)
        c = Conv (r, v)
        y = Softmax (c)
    }"""

JOINED = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,4,4] x, float[1,1,4,4] v) => (float[1,1,4,4] y)
    <float s = {0.02}, float r = {0.05}, int8 z = {0}, int8[1,2,1,1] w = {64, 32}, float sw = {0.01}>
    {
        k = DequantizeLinear (w, sw, z)
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        p = QuantizeLinear (v, r, z)
        e = DequantizeLinear (p, r, z)
        c = Concat <axis = 1> (d, e)
        cq = QuantizeLinear (c, r, z)
        cd = DequantizeLinear (cq, r, z)
        y = Conv (cd, k)
    }"""
"""If `v` is much larger than `x`, the guard refuses to join them, and an FP16 model is then repaired again."""


def mark(model: onnx.ModelProto) -> str:
    return next((entry.value for entry in model.metadata_props if entry.key == RESULT), "")


def apart(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    samples = uniform(model)
    for sample in samples:
        sample["v"] *= 50
    return samples


@pytest.mark.parametrize("options", [{}, {"fp16": True}, {"fp16": True, "keep_io": True, "numerics": True}])
@pytest.mark.parametrize("more", [{}, {"bias_correction": True}, {"round_weights": True}])
def test_quantize_and_fix_recognize_their_result(options: dict[str, Any], more: dict[str, Any]) -> None:
    model = parse(FLOAT)
    samples, given = uniform(model), {**options, **more}
    result = qdqgraph.quantize(model, data=samples, **given)
    for call in (qdqgraph.quantize, qdqgraph.fix):
        again = call(result.model, data=samples, **given)
        assert again.model.SerializeToString() == result.model.SerializeToString() and not again.plan.edits
        assert any("result of the same run" in note for note in again.notes)
        assert again.int8 == (again.int8 or ())[1:] * 2
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nets)
def test_on_random_graphs_fp16_twice_changes_no_byte(model: onnx.ModelProto) -> None:
    samples, before = uniform(model), model.SerializeToString()
    result = qdqgraph.fix(model, data=samples, fp16=True)
    again = qdqgraph.fix(result.model, data=samples, fp16=True)
    assert again.model.SerializeToString() == result.model.SerializeToString() and not again.plan.edits
    assert result.plan.inverse().apply(result.model).SerializeToString() == before


@pytest.mark.parametrize(
    "other",
    [
        {"data": uniform(parse(FLOAT), seed=3)},
        {"calibrate": "max"},
        {"max_bits_lost": 1.0},
        {"rules": qdqgraph.rules(ignore=["QDQ101"])},
        {"fp16": True},
    ],
    ids=["data", "method", "option", "rules", "FP16"],
)
def test_another_run_repairs(other: dict[str, Any]) -> None:
    model = parse(FLOAT)
    samples = uniform(model)
    result = qdqgraph.quantize(model, data=samples)
    again = qdqgraph.fix(result.model, **{"data": samples, **other})
    assert not any("result of the same run" in note for note in again.notes)


def test_a_changed_file_is_no_result() -> None:
    model = parse(FLOAT)
    result = qdqgraph.quantize(model, data=uniform(model))
    scale = next(i for i in result.model.graph.initializer if i.float_data or i.raw_data)
    scale.raw_data = (onnx.numpy_helper.to_array(scale) * 2).tobytes()
    again = qdqgraph.fix(result.model, data=uniform(model))
    assert not any("result of the same run" in note for note in again.notes)


def test_without_the_mark_the_scales_converge() -> None:
    model = parse(FLOAT)
    samples = uniform(model)
    result = qdqgraph.quantize(model, data=samples)
    again = qdqgraph.fix(unmarked(result.model), data=samples, reference=model)
    assert not again.plan.edits


def test_what_follows_from_the_file_alone_has_no_mark() -> None:
    model = network(reals(), stored=True)
    assert not mark(qdqgraph.fix(model).model)
    assert not mark(qdqgraph.fix(model, data=uniform(model), calibrate="none").model)
    assert mark(qdqgraph.fix(model, data=uniform(model)).model)


def test_the_repair_of_the_fp16_model_uses_the_statistics_of_the_float_network(tmp_path: Path) -> None:
    model, path = parse(JOINED), tmp_path / "statistics.npz"
    samples = apart(model)
    given: dict[str, Any] = {"calibrate": "max", "fp16": True}
    measured = qdqgraph.fix(model, data=samples, **given)
    assert any(f.refused and f.bits_lost for f in measured.left)
    kept = qdqgraph.fix(model, data=samples, statistics=path, **given)
    assert kept.model.SerializeToString() == measured.model.SerializeToString()
    read = qdqgraph.fix(model, data=samples, statistics=path, **given)
    assert read.model.SerializeToString() == measured.model.SerializeToString()
    alone = qdqgraph.fix(model, ranges=path, **given)
    assert alone.model.SerializeToString() == unmarked(measured.model).SerializeToString()
    again = qdqgraph.fix(read.model, data=samples, statistics=path, **given)
    assert not again.plan.edits


def test_the_command_line_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(float_model(parse(JOINED), Path()).model, tmp_path / "float.onnx")
    samples = apart(parse(JOINED))
    arrays: Any = {name: np.concatenate([sample[name] for sample in samples]) for name in ("x", "v")}
    np.savez(tmp_path / "data.npz", **arrays)
    more = ["--data", str(tmp_path / "data.npz"), "--fp16"]
    one, two = str(tmp_path / "one.onnx"), str(tmp_path / "two.onnx")
    assert main(["quantize", str(tmp_path / "float.onnx"), "-o", one, *more]) == 0
    assert "result of the same run" not in capsys.readouterr().err
    assert main(["fix", one, "-o", two, *more]) == 0
    assert "result of the same run" in capsys.readouterr().err
    assert Path(one).read_bytes() == Path(two).read_bytes()
