"""Corrections on data: known biases, what the held-back samples decide, one correction however often it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import numpy_helper

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.cli.main import main
from qdqgraph.errors import CalibrationError, ModelError
from qdqgraph.model.text import parse
from tests.support.graphs import nets
from tests.support.marks import unmarked
from tests.support.samples import uniform as data

DEPTHWISE = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x) => (float[1,2,4,4] y)
    <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, -127}, float sw = {0.01}, float[2] b = {1, 2}>
    {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        k = DequantizeLinear (w, sw, z)
        y = Conv <group = 2> (d, k, b)
    }"""
"""0.26 becomes 0.3: the outputs shift by 0.04 times the weights, 0.64 and -1.27."""
SHIFT = np.array([0.04 * 0.64, 0.04 * -1.27])

LINEAR = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,3,2] x) => (float[1,3,2] y)
    <float s = {0.1}, int8 z = {0}, int8[2,2] w = {64, 0, 0, -127}, float sw = {0.01}, float[1,2] b = {1, 2}>
    {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        k = DequantizeLinear (w, sw, z)
        m = MatMul (d, k)
        y = Add (b, m)
    }"""
"""The same with the bias in an Add."""


def steady(model: onnx.ModelProto, values: list[float]) -> list[dict[str, np.ndarray]]:
    """One sample for each value, which all its elements have."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return [{model.graph.input[0].name: np.full(shape, value, np.float32)} for value in values]


def corrected(model: onnx.ModelProto, values: list[float], **more: Any) -> qdqgraph.Result:
    return qdqgraph.fix(model, data=steady(model, values), calibrate="none", bias_correction=True, **more)


def constant(model: onnx.ModelProto, place: tuple[str, int]) -> np.ndarray | None:
    """The stored constant at a node input."""
    node = next(n for n in model.graph.node if n.output[0] == place[0])
    if place[1] >= len(node.input):
        return None
    stored = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    stored |= {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"
    }
    return stored[node.input[place[1]]]


@pytest.mark.parametrize(("text", "place"), [(DEPTHWISE, ("y", 2)), (LINEAR, ("y", 0))])
def test_the_mean_error_of_each_channel_leaves_the_bias(text: str, place: tuple[str, int]) -> None:
    model = parse(text)
    result = corrected(model, [0.26, 0.27, 0.26, 0.27])
    found = constant(result.model, place)
    assert found is not None and found.shape == numpy_helper.to_array(model.graph.initializer[-1]).shape
    assert found.reshape(-1) == pytest.approx(np.array([1, 2]) - SHIFT, abs=1e-6)
    (done,) = result.corrections
    assert done.kept and done.examined == 1 and [c.layer for c in done.layers] == ["m" if place[1] == 0 else "y"]
    assert done.layers[0].after > done.layers[0].before + 5
    assert done.gain is not None and done.gain.after > done.gain.before + 5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (", float[2] b = {1, 2}>", ">"),
        ("float[2] b = {1, 2}", "int32[2] bi = {1000, 2000}, float bs = {0.001}, int32 bz = {0}"),
        ("        y = Conv", "        b = Constant <value = float[2] {1, 2}> ()\n        y = Conv"),
        ("y = Conv <group = 2> (d, k, b)", "c = Conv <group = 2> (d, k, b)\n        y = Relu (c)"),
    ],
    ids=["none", "INT32", "Constant node", "Relu after it"],
)
def test_every_form_of_a_bias_is_corrected_once_and_its_original_comes_back(old: str, new: str) -> None:
    text = DEPTHWISE.replace(old, new)
    if "Constant" in new:
        text = text.replace(", float[2] b = {1, 2}", "")
    if old.endswith("{1, 2}>"):
        text = text.replace("(d, k, b)", "(d, k)")
    if "int32" in new:
        text = text.replace("        y = Conv", "        b = DequantizeLinear (bi, bs, bz)\n        y = Conv")
    layer = "c" if "Relu" in new else "y"
    model, values = parse(text), [0.26, 0.27, 0.26, 0.27]
    result = corrected(model, values)
    found = constant(result.model, (layer, 2))
    assert found == pytest.approx((0 if old.endswith(">") else np.array([1, 2])) - SHIFT, abs=1e-6)
    for samples in (values, [0.26, 0.26, 0.28, 0.26]):
        again = corrected(result.model, samples)
        if samples == values:
            assert again.model.SerializeToString() == result.model.SerializeToString()
        assert constant(again.model, (layer, 2)) == pytest.approx(found, abs=0.02)
    folder = Path()
    repaired = qdqgraph.fix(model, data=steady(model, values), calibrate="none").model
    assert float_model(result.model, folder).digest == float_model(repaired, folder).digest
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()


def test_a_bias_that_does_not_help_the_held_back_samples_is_not_kept() -> None:
    """0.26 is rounded up, 0.34 down: what the first half shows makes the second half worse."""
    model = parse(DEPTHWISE)
    result = corrected(model, [0.26, 0.34, 0.26, 0.34])
    (done,) = result.corrections
    assert (done.examined, done.layers, done.gain, done.kept) == (1, (), None, False)
    assert unmarked(result.model).SerializeToString() == qdqgraph.fix(model).model.SerializeToString()


def test_a_correction_that_makes_the_outputs_worse_is_dropped() -> None:
    """The errors of two layers cancel in their sum; the error of one alone does not."""
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {100}, int8[1,1,1,1] v = {-100}, float sw = {0.01}, float[1] b = {1}>
        {
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            k = DequantizeLinear (w, sw, z)
            m = DequantizeLinear (v, sw, z)
            a = Conv (d, k, b)
            c = Conv (d, m, b)
            y = Add (a, c)
        }""")
    values = [0.26, 0.261, 0.26, 0.261]
    (done,) = corrected(model, values, only=("a",)).corrections
    assert [layer.layer for layer in done.layers] == ["a"] and done.layers[0].after > done.layers[0].before + 5
    assert done.gain is not None and done.gain.after < done.gain.before - 10 and not done.kept
    assert constant(corrected(model, values, only=("a",)).model, ("a", 2)) == pytest.approx([1])
    (both,) = corrected(model, values).corrections
    assert len(both.layers) == 2 and both.gain is not None


def test_a_shared_bias_gets_a_copy_for_each_layer() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v, float[1,1,4,4] u)
        <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, int8[1,1,1,1] o = {-127}, float sw = {0.01}, float[1] b = {1}>
        {
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            k = DequantizeLinear (w, sw, z)
            m = DequantizeLinear (o, sw, z)
            y = Conv (d, k, b)
            v = Conv (d, m, b)
            u = Conv (x, k, b)
        }""")
    values = [0.26, 0.27, 0.26, 0.27]
    result = corrected(model, values)
    found = [constant(result.model, (name, 2)) for name in "yvu"]
    assert [float(f[0]) for f in found if f is not None] == pytest.approx([1 - SHIFT[0], 1 - SHIFT[1], 1], abs=1e-6)
    again = corrected(result.model, values)
    assert again.model.SerializeToString() == result.model.SerializeToString()
    assert float_model(result.model, Path()).digest == float_model(model, Path()).digest


def test_stripped_layers_get_their_original_bias_back() -> None:
    model = parse(DEPTHWISE)
    result = corrected(model, [0.26, 0.27])
    bare = qdqgraph.strip(result.model, ["y"])
    assert constant(bare.model, ("y", 2)) == pytest.approx([1, 2])
    assert not any(m.key.startswith("qdqgraph.original.") for m in bare.model.metadata_props)


def test_renamed_nodes_and_fp16_keep_the_original_and_a_changed_bias_is_a_note() -> None:
    values = [0.26, 0.27, 0.26, 0.27]
    result = corrected(parse(DEPTHWISE), values)
    renamed = onnx.ModelProto()
    renamed.CopyFrom(result.model)
    renamed.graph.node[-1].output[0] = renamed.graph.output[0].name = "other"
    renamed.graph.node[-1].name = "name"
    found = float_model(renamed, Path()).model
    assert constant(found, ("other", 2)) == pytest.approx([1, 2])
    half = float_model(qdqgraph.to_fp16(result.model).model, Path()).model
    assert any(np.array_equal(numpy_helper.to_array(i), np.array([1, 2], np.float16)) for i in half.graph.initializer)
    for tensor in renamed.graph.initializer:
        if list(tensor.dims) == [2]:
            tensor.CopyFrom(numpy_helper.from_array(np.array([5, 6], np.float32), tensor.name))
    later = qdqgraph.fix(renamed)
    assert any("the originals of 1 corrected constant that the model does not contain" in note for note in later.notes)


def test_quantize_takes_the_error_of_rounded_weights_off_the_bias() -> None:
    """The scale of the weights is 0.01, so 0.0149 becomes 0.01; the activation, 1.27, is exact."""
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,4,4] x) => (float[1,1,4,4] y)
        <float[1,2,1,1] w = {1.27, 0.0149}, float[1] b = {1}>
        {
            y = Conv (x, w, b)
        }""")
    result = qdqgraph.quantize(model, data=steady(model, [1.27] * 4), calibrate="max", bias_correction=True)
    found = constant(result.model, ("y", 2))
    assert found == pytest.approx([1 + 1.27 * 0.0049], abs=1e-5)


def test_what_it_needs_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = parse(DEPTHWISE)
    with pytest.raises(ModelError, match="computed on samples of the inputs: give data"):
        qdqgraph.fix(model, bias_correction=True)
    with pytest.raises(ModelError, match="exact repairs do not"):
        corrected(model, [0.26, 0.27], exact=True)
    with pytest.raises(CalibrationError, match="2 samples or more"):
        corrected(model, [0.26])
    onnx.save(model, tmp_path / "m.onnx")
    assert main(["fix", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--bias-correction"]) == 2
    assert "give them with --data" in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()


def test_text_and_json_report_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = parse(DEPTHWISE)
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([f["x"] for f in steady(model, [0.26, 0.27])]))
    command = ["fix", str(tmp_path / "m.onnx"), "--dry-run", "--data", str(tmp_path / "d.npz"), "--calibrate", "none"]
    assert main([*command, "--bias-correction", "--no-numerics"]) == 0
    assert "1 of 1 layer; outputs" in " ".join(capsys.readouterr().out.split())
    assert main([*command, "--bias-correction", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["corrections"]
    assert record["name"] == "bias correction" and record["kept"] and record["layers"][0]["layer"] == "y"
    assert record["outputs"]["after_db"] > record["outputs"]["before_db"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(nets)
def test_on_random_graphs_the_same_command_twice_changes_no_byte(model: onnx.ModelProto) -> None:
    samples, before = data(model), model.SerializeToString()
    result = qdqgraph.fix(model, data=samples, calibrate="mse", bias_correction=True)
    onnx.checker.check_model(result.model, full_check=True)
    plain = unmarked(result.model)
    again = qdqgraph.fix(plain, data=samples, calibrate="mse", bias_correction=True)
    assert again.model == plain or unmarked(again.model) == plain
    again = qdqgraph.fix(result.model, data=samples, calibrate="mse", bias_correction=True)
    assert again.model.SerializeToString() == result.model.SerializeToString()
    assert result.plan.inverse().apply(result.model).SerializeToString() == before
    plain = qdqgraph.fix(model, data=samples, calibrate="mse").model
    assert float_model(result.model, Path()).digest == float_model(plain, Path()).digest
