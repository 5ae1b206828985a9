"""Types that do not fit together: scales, inputs, zero-points, operands, INT8 constants; after the repair all agree."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import qdqgraph
from qdqgraph import RepairError
from tests.support.engines import builds

RANDOM = np.random.default_rng(11)
WEIGHTS = RANDOM.normal(0, 0.2, (16, 16, 1, 1)).astype(np.float32)
FP8, BF16 = onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.BFLOAT16


def parsed(body: str, opset: int = 19, x: str = "float", y: str = "float", **constants: Any) -> onnx.ModelProto:
    """A model of a 16-channel tensor; `s` and `h` are a scale in FP32 and FP16, `z` and `u` zeros in INT8 and UINT8."""
    own = {
        "s": np.float32(0.125),
        "h": np.float16(0.125),
        "z": np.int8(0),
        "u": np.uint8(0),
        "w": WEIGHTS,
        **constants,
    }
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({x}[1,16,8,8] x) => ({y}[1,16,8,8] y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, value in own.items():
        tensor = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        tensor.name = name
        if any(name in node.input for node in model.graph.node):
            model.graph.initializer.append(tensor)
    return model


PAIR = "q = QuantizeLinear (x, {0}, z) d = DequantizeLinear (q, {0}, z) "
WEIGHT = "r = QuantizeLinear (w, {0}, z) k = DequantizeLinear (r, {0}, z) "
CONV = "y = Conv (d, k)"
FP8_ZERO = helper.make_tensor("z", FP8, [], [0.0])

MIXED = {
    "FP32 weights, FP16 scale": parsed(PAIR.format("h") + WEIGHT.format("h") + CONV, x="float16", y="float16"),
    "FP32 weights, FP16 scale, FP8": parsed(
        PAIR.format("h") + WEIGHT.format("h") + CONV, x="float16", y="float16", z=FP8_ZERO
    ),
    "FP16 input, FP32 scale": parsed(PAIR.format("s") + WEIGHT.format("s") + CONV, x="float16"),
    "FP32 input, FP16 scale": parsed(
        PAIR.format("h") + "v = Cast <to = 10> (w) r = QuantizeLinear (v, h, z) k = DequantizeLinear (r, h, z)" + CONV,
        y="float16",
    ),
    "FP16 activations, FP32 weights": parsed(
        PAIR.format("h") + "k = DequantizeLinear (w, s, z) " + CONV,
        x="float16",
        y="float16",
        w=RANDOM.integers(-99, 99, (16, 16, 1, 1)).astype(np.int8),
    ),
    "FP32 activations, FP16 weights": parsed(
        PAIR.format("s") + "v = Cast <to = 10> (w) r = QuantizeLinear (v, h, z) k = DequantizeLinear (r, h, z)" + CONV
    ),
}
UNFIT = {
    "UINT8 zero-point of a DQ": parsed(
        "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, u) " + WEIGHT.format("s") + CONV
    ),
    "UINT8 zero-point of INT8 weights": parsed(
        PAIR.format("s") + "k = DequantizeLinear (w, s, u) " + CONV, w=np.ones((16, 16, 1, 1), np.int8)
    ),
    "INT32 zero-point": parsed(PAIR.format("s") + WEIGHT.format("s") + CONV, z=np.int32(0)),
    "FP32 zero-point": parsed(PAIR.format("s") + WEIGHT.format("s") + CONV, z=np.float32(0)),
    "FP64 scale": parsed(PAIR.format("t") + WEIGHT.format("t") + CONV, t=np.float64(0.125)),
    "one zero-point for 16 scales": parsed(
        PAIR.format("s") + "r = QuantizeLinear <axis = 0> (w, t, z) k = DequantizeLinear <axis = 0> (r, t, z) " + CONV,
        t=np.full(16, 0.125, np.float32),
    ),
    "16 zero-points for one scale": parsed(
        PAIR.format("s") + "r = QuantizeLinear <axis = 0> (w, s, t) k = DequantizeLinear <axis = 0> (r, s, t) " + CONV,
        t=np.zeros(16, np.int8),
    ),
}


def settled(model: onnx.ModelProto, code: str) -> qdqgraph.Result:
    """The repair: found, valid, undone to the byte, silent the second time, and ONNX Runtime loads it."""
    assert code in {f.code for f in qdqgraph.check(model)}
    result = qdqgraph.fix(model, numerics=True)
    assert not {code, "QDQ420"} & {f.code for f in qdqgraph.check(result.model)}
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    assert not qdqgraph.fix(result.model).plan.edits
    return result


def quantized_convolutions(model: onnx.ModelProto, folder: Path) -> int:
    layers = builds(model, folder)
    return sum(k.kind == "correlation" and any(t.precision in ("INT8", "FP8") for t in k.inputs) for k in layers)


@pytest.mark.parametrize("name", MIXED)
def test_one_type_for_scale_and_input_and_for_all_operands(name: str, tmp_path: Path) -> None:
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.checker.check_model(MIXED[name], full_check=True)
    result = settled(MIXED[name], "QDQ419")
    assert "QDQ420" not in {f.code for f in qdqgraph.check(MIXED[name])}, "reported once"
    assert result.numbers is not None and not any(a.identical for a in result.numbers.outputs.values())
    assert quantized_convolutions(result.model, tmp_path) == 1


@pytest.mark.parametrize("name", UNFIT)
def test_zero_points_and_scales_fit_and_no_value_changes(name: str, tmp_path: Path) -> None:
    assert {f.safety.value for f in qdqgraph.check(UNFIT[name]) if f.code == "QDQ424"} == {"exact"}
    result = settled(UNFIT[name], "QDQ424")
    assert quantized_convolutions(result.model, tmp_path) == 1


def test_opset_23_allows_a_scale_of_another_type() -> None:
    model = parsed(PAIR.format("h") + WEIGHT.format("h") + CONV, 23, x="float16", y="float16")
    assert not {f.code for f in qdqgraph.check(model)} & {"QDQ419", "QDQ420"}


def test_weights_beyond_fp16_are_not_converted() -> None:
    model = parsed(PAIR.format("h") + WEIGHT.format("h") + CONV, x="float16", y="float16", w=WEIGHTS * 1e6)
    with pytest.raises(RepairError, match="QDQ419 'w' is FP32 and its scale FP16"):
        qdqgraph.fix(model)


def test_a_zero_point_that_its_type_cannot_hold_is_not_guessed() -> None:
    body = PAIR.format("s") + "k = DequantizeLinear (w, s, u) " + CONV
    model = parsed(body, w=np.ones((16, 16, 1, 1), np.int8), u=np.uint8(128))
    with pytest.raises(
        RepairError, match=r"zero-point of .* is UINT8, and its integers are INT8; quantize the model again"
    ):
        qdqgraph.fix(model)


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ("f = Cast <to = 1> (c) y = Add (d, f)", True),
        ("a = Add (q, c) y = DequantizeLinear (a, s, z)", False),
        ("a = Max (q, z) y = DequantizeLinear (a, s, z)", False),
        ("b = Equal (q, c) f = Cast <to = 1> (b) y = Add (d, f)", False),
    ],
)
def test_only_a_dequantizelinear_reads_an_int8_constant(body: str, stored: bool, tmp_path: Path) -> None:
    integers = RANDOM.integers(-9, 9, (16, 16, 1, 1)).astype(np.int8)
    model = parsed(PAIR.format("s") + body, w=integers, c=RANDOM.integers(-9, 9, (1, 16, 8, 8)).astype(np.int8))
    result = settled(model, "QDQ423")
    assert result.numbers is not None and result.numbers.outputs["y"].identical
    assert (onnx.TensorProto.INT32 in {t.data_type for t in result.model.graph.initializer}) != stored
    assert builds(result.model, tmp_path)


def test_bfloat16_scales_are_converted_too() -> None:
    scale = helper.make_tensor("h", BF16, [], [0.125])
    model = parsed(PAIR.format("h") + WEIGHT.format("h") + CONV, 22, x="bfloat16", y="bfloat16", h=scale)
    result = qdqgraph.fix(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert [f.code for f in result.applied if f.code == "QDQ419"]


def test_pairs_in_a_subgraph_alone_are_refused_with_the_place() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x, bool c) => (float[4] y) <float s = {0.1}, int8 z = {0}> {
        y = If (c) < then_branch = t () => (float[4] a) { q = QuantizeLinear (x, s, z) a = DequantizeLinear (q, s, z) },
                     else_branch = e () => (float[4] b) { b = Relu (x) } > }"""
    with pytest.raises(qdqgraph.ModelError, match=r"inside subgraphs \(If, Loop, Scan\)"):
        qdqgraph.check(onnx.parser.parse_model(text))


def test_an_integer_convolution_that_no_repair_fits_gives_the_reason() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x, float[1] b) => (float[1,1,4,4] y) <int8[1,1,1,1] w = {64}, int8 zw = {0}, float sw = {0.01}> {
            q, s, z = DynamicQuantizeLinear (x)
            i = ConvInteger (q, w, z, zw)
            m = Mul (s, sw)
            e = Div (b, m)
            r = Cast <to = 6> (e)
            a = Add (i, r)
            f = Cast <to = 1> (a)
            y = Mul (f, m) }"""
    reason = "adds 'r' to its INT32 result, a bias that is computed at run time"
    with pytest.raises(
        RepairError, match=f"i: QDQ411 TensorRT has no ConvInteger, and no repair fits here: .*{reason}"
    ):
        qdqgraph.fix(onnx.parser.parse_model(text))
