"""The calls of the package: `fix`, `check` and `strip`, their options, and what a wrong argument is answered with."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import ArgumentError, ModelError, Options
from qdqgraph.model import runtime
from qdqgraph.rulekit import Graph, key, pairs
from tests.support.models import build

SHAPE = "float[1,2,3,3]"


def test_fix_takes_a_path_and_options_by_name(tmp_path: Path) -> None:
    path, out = tmp_path / "m.onnx", tmp_path / "fixed.onnx"
    onnx.save(
        build(
            "g (float[4] x) => (float[4] y) <uint8 z = {128}> { q = QuantizeLinear (x, s1, z) y = DequantizeLinear (q, s1, z) }"
        ),
        path,
    )
    result = qdqgraph.fix(path, output=out, target="trt-11")
    assert onnx.load(out).SerializeToString() == result.model.SerializeToString()
    with pytest.raises(ArgumentError, match="fix has no option 'tarjet'; did you mean 'target'"):
        qdqgraph.fix(path, tarjet="trt-11")  # type: ignore[call-arg]
    with pytest.raises(
        ModelError,
        match=r"unknown target 'trt-9'; did you mean 'trt-10'\? Known targets: trt-10, trt-11, trt-8\.6, trt-rtx",
    ):
        qdqgraph.check(path, target="trt-9")
    with pytest.raises(ModelError, match="cannot be read"):
        qdqgraph.fix(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"weights": "INT8"}, "weights is 'INT8'; use 'int8', 'float' or None"),
        ({"max_bits_lost": "a"}, "use a number of bits"),
        ({"only": "conv*"}, r"only is a string; use a tuple"),
        ({"also": "QDQ403"}, r"also is a string"),
        ({"target": "trt-9"}, "unknown target 'trt-9'"),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Options(**settings)  # type: ignore[arg-type]


def test_calls_say_what_a_wrong_argument_should_be() -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    for call in (qdqgraph.fix, qdqgraph.check):
        with pytest.raises(qdqgraph.RuleError, match="rules contains 'QDQ101', which is not a rule; to choose by code"):
            call(model, ["QDQ101"])  # type: ignore[list-item]
    with pytest.raises(ModelError, match=r"nodes is a string; use a tuple of strings: \('y',\)"):
        qdqgraph.strip(model, "y")


def test_strip_takes_the_pairs_off_chosen_layers_only() -> None:
    model = build(
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s1) }"
    )
    result = qdqgraph.strip(model, ["y"])
    graph = Graph(result.model)
    convolution, other = graph.node("y"), graph.node("v")
    assert convolution.inputs[0].name == "a" and pairs(graph).made(convolution.inputs[1].name) is None
    assert pairs(graph).made(other.inputs[0].name) is not None and pairs(graph).made(other.inputs[1].name) is not None
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    with pytest.raises(ModelError, match="no node matches 'none\\*'"):
        qdqgraph.strip(model, ["y", "none*"])
    with pytest.raises(ModelError, match="no input is quantized"):
        qdqgraph.strip(model, ["a"])


def test_strip_keeps_a_relu_that_the_pair_stood_for() -> None:
    model = build(
        f"""g ({SHAPE} x) => ({SHAPE} y) <float s = {{0.1}}, uint8 z = {{0}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Neg (d) }}"""
    )
    x = np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 2, 3, 3)
    assert np.array_equal(runtime.run(qdqgraph.strip(model, ["y"]).model, [{"x": x}], Path())[0][0], -np.maximum(x, 0))


@pytest.mark.parametrize(
    ("integers", "operators"), [("int8", ["Cast", "Relu", "Relu"]), ("uint8", ["Clip", "Cast", "Relu", "Relu"])]
)
def test_strip_keeps_the_type_that_a_dq_changes(integers: str, operators: list[str]) -> None:
    """From opset 23 a DequantizeLinear names its own output type."""
    model = build(
        f"""g ({SHAPE} x) => (float16[1,2,3,3] y, {SHAPE} v) <float s = {{0.1}}, {integers} z = {{0}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear <output_dtype = 10> (q, s, z) e = DequantizeLinear (q, s, z)
            y = Relu (d) v = Relu (e) }}""",
        opset=23,
    )
    stripped = qdqgraph.strip(model, ["y", "v"]).model
    onnx.checker.check_model(stripped, full_check=True)
    assert sorted({node.op_type for node in stripped.graph.node}) == sorted(set(operators))
    assert [o.type.tensor_type.elem_type for o in stripped.graph.output] == [10, 1]


def test_strip_by_rule_takes_what_the_rule_speaks_of() -> None:
    model = build(
        f"""g ({SHAPE} x) => ({SHAPE} y) <float s = {{0}}, int8 z = {{0}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Neg (d) }}"""
    )
    assert [key(n) for n in Graph(qdqgraph.strip(model, select=["QDQ403"]).model).nodes()] == ["y"]


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"calibrate": "mse"}, "calibrate has an effect only with data"),
        ({"reference": "float.onnx"}, "reference has an effect only with data"),
        ({"memory": 1 << 30}, "memory has an effect only with data"),
        ({"statistics": "kept.npz"}, "statistics has an effect only with data"),
        ({"percentile": 99.0}, "percentile has no effect on the method auto"),
    ],
)
def test_settings_of_calibration_without_effect_are_refused(
    settings: dict[str, object], said: str, tmp_path: Path
) -> None:
    pair = "q = QuantizeLinear (x, s1, z) y = DequantizeLinear (q, s1, z)"
    model = build(f"g (float[4] x) => (float[4] y) <int8 z = {{0}}> {{ {pair} }}")
    cache = tmp_path / "a.cache"
    cache.write_text("TRT-8603-EntropyCalibration2\nx: 3c010a14\n")
    values: dict[str, Any] = settings
    for table in (None, cache):
        with pytest.raises(ModelError, match=said):
            qdqgraph.fix(model, ranges=table, **values)


def test_undo_restores_an_original_that_the_checker_rejects(tmp_path: Path) -> None:
    """onnxruntime writes per-channel pairs into files of opset 11, which has no axis; `fix` raises the opset."""
    path, out, plan, back = (tmp_path / name for name in ("m.onnx", "fixed.onnx", "m.plan", "back.onnx"))
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[1,1,4,4] x) => (float[1,2,4,4] y)
        <int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}, float s = {0.1}, int8 z = {0}>
        {
            k = DequantizeLinear <axis = 0> (w, sw, zw)
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            y = Conv (d, k)
        }""")
    path.write_bytes(model.SerializeToString(deterministic=True))
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(str(path))
    qdqgraph.fix(path, output=out, plan=plan)
    notes: list[str] = []
    qdqgraph.undo(plan, out, output=back, note=notes.append)
    assert back.read_bytes() == path.read_bytes()
    assert notes[0].startswith("onnx.checker rejects the restored original: ")
