"""FP16 around INT8: what stays FP32 because of its numbers: scales, constants, ranges, integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qdqgraph
from qdqgraph.calibration.noise import noise
from qdqgraph.calibration.ranges import measured_ranges
from qdqgraph.fp16 import to_fp16
from qdqgraph.model import runtime
from tests.support.fp16 import INTEGERS, X, Y, constants, half, ops, outputs, reasons, sqnr, weighted
from tests.support.models import build


def test_a_scale_too_small_for_fp16_keeps_its_convolution_in_fp32_without_a_cast_before_it() -> None:
    model = build(
        f"g ({X}) => ({Y}) <float tiny = {{1e-6}}> {{ a = Relu (x) b = Mul (a, tiny) c = t.conv4 (b, tiny) y = Relu (c) }}"
    )
    made = half(model)
    conv = next(n for n in made.model.graph.node if n.op_type == "Conv")
    assert "1e-06" in reasons(made)[conv.output[0]]
    before = {o: n.op_type for n in made.model.graph.node for o in n.output}
    assert {before.get(name) for name in conv.input} == {"DequantizeLinear"}


def test_it_keeps_its_convolution_in_fp32_through_any_number_of_views() -> None:
    steps = 1100
    ones = ", ".join("1" * 16)
    views = " ".join(f"v{i + 1} = Reshape (v{i}, shape)" for i in range(steps))
    model = build(
        f"g ({X}) => ({Y}) <float tiny = {{1e-6}}, int64[4] shape = {{1, 4, 8, 8}}, int8 z = {{0}}, float[4,4,1,1] w = {{{ones}}}> "
        f"{{ q = QuantizeLinear (x, tiny, z) v0 = DequantizeLinear (q, tiny, z) {views} y = Conv (v{steps}, w) }}"
    )
    kept = {k.node for k in to_fp16(model).kept if "1e-06" in k.reason}
    assert {*(f"v{i + 1}" for i in range(steps)), "y"} <= kept


def test_a_weight_channel_without_a_weight_may_have_any_scale() -> None:
    integers = INTEGERS.copy()
    integers[2] = 0
    made = half(weighted([0.01, 0.02, 1e-12, 0.03], integers))
    assert not made.kept
    assert constants(made.model)["sw"].tolist()[2] == 2.0**-14


def test_a_weight_scale_too_small_keeps_the_exact_scales_of_that_convolution_alone() -> None:
    model = weighted([0.01, 0.02, 1e-7, 0.03], INTEGERS)
    made = half(model)
    assert "1e-07 in 1 of 4 channels" in reasons(made)["y"]
    assert (constants(made.model)["sw"] == constants(model)["sw"]).all()


def test_weights_keep_their_integers() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(0, 0.05, (4, 4, 1, 1)).astype(np.float32)
    model = weighted([0.001, 0.0013, 0.0009, 0.0011], INTEGERS)
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(real, "float"))
    model.graph.node.insert(2, helper.make_node("QuantizeLinear", ["float", "sw", "zw"], ["w"], axis=0))
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.INT8, [4, 4, 1, 1]))
    (_, integers), *_ = runtime.run(model, noise(model), Path())
    del model.graph.output[-1]
    made = half(model)
    assert (constants(made.model)["w"] == integers).all()
    assert "float" not in constants(made.model) and "QuantizeLinear" in ops(made.model)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("m = Mul (x, huge) y = Tanh (m)", {"m": "beyond", "y": "may contain"}),
        ("m = Div (x, huge) y = Relu (m)", {"m": "beyond"}),
        (
            "m = Add (x, guard) r = Sqrt (m) y = Div (x, r)",
            {"m": "too small", "r": "round to zero", "y": "round to zero"},
        ),
        ("m = Clip (x, zero, huge) y = Relu (m)", {}),
        ("m = Add (x, infinite) y = Tanh (m)", {}),
        ("m = Mul (x, gamma) y = Add (x, m)", {}),
    ],
    ids=["too large", "divided by it", "guard of a division", "bound of a Clip", "infinite", "small"],
)
def test_constants_that_fp16_does_not_hold(body: str, kept: dict[str, str]) -> None:
    values = "float huge = {1e6}, float guard = {1e-12}, float zero = {0}, float gamma = {1e-6}"
    model = build(f"g ({X}) => ({Y}) <{values}, float infinite = {{0}}> {{ {body} }}")
    for tensor in model.graph.initializer:
        if tensor.name == "infinite":
            tensor.CopyFrom(numpy_helper.from_array(np.array(-np.inf, np.float32), "infinite"))
    found = reasons(half(model))
    assert {k: v for k, v in found.items() if k != "x"}.keys() >= kept.keys()
    assert all(part in found[name] for name, part in kept.items())
    assert kept or not found


def test_a_constant_that_both_types_read_exists_twice() -> None:
    text = f"g ({X}) => ({Y}) <float[1,4,1,1] k = {{1, 2, 3, 4}}, float huge = {{1e6}}> {{ a = Mul (x, k) b = Mul (a, huge) y = Mul (b, k) }}"
    made = half(build(text))
    assert sorted(str(v.dtype) for n, v in constants(made.model).items() if n.startswith("k")) == ["float16", "float32"]


def test_a_constant_just_beyond_fp16_stays_fp32_with_its_value_as_the_reason() -> None:
    made = half(build(f"g ({X}) => ({Y}) <float k = {{70000}}> {{ a = Mul (x, k) y = Relu (a) }}"))
    assert "7e+04, beyond FP16's 65504" in reasons(made)["a"]


def test_ranges_seen_on_data_keep_what_overflows_in_fp32() -> None:
    model = build(
        f"g ({X}) => ({Y}) <float k = {{300}}, float r = {{0.0001}}> {{ a = Mul (x, k) b = Mul (a, k) c = Mul (b, r) y = Relu (c) }}"
    )
    feeds = noise(model)
    ranges = measured_ranges(model, feeds, Path())
    assert ranges["b"] == pytest.approx(9e4, rel=0.1) and set(ranges) == {"x", "a", "b", "c", "y"}
    made = half(model, ranges=ranges)
    assert set(reasons(made)) == {"b", "c"} and "65504" in reasons(made)["c"]
    assert sqnr(model, made.model, feeds) > 50
    assert not np.isfinite(outputs(half(model).model, feeds)).all(), "without ranges it overflows"


def test_a_variance_written_out_is_computed_in_fp32() -> None:
    text = f"""g ({X}) => ({Y}) <float two = {{2}}, float eps = {{0.00001}}, float big = {{1000}}> {{
        w = Mul (x, big) m = ReduceMean <axes = [1]> (w) c = Sub (w, m) p = Pow (c, two) v = ReduceMean <axes = [1]> (p)
        e = Add (v, eps) s = Sqrt (e) y = Div (c, s) }}"""
    model = build(text)
    made = half(model)
    assert set(reasons(made)) == {"p", "v", "e", "s"} and made.casts == 2
    assert sqnr(model, made.model) > 55


def test_globs_keep_nodes_in_fp32_and_what_lies_between_them() -> None:
    model = build(f"g ({X}) => ({Y}) {{ a = Sigmoid (x) b = Relu (a) c = Sigmoid (b) y = Tanh (c) }}")
    found = reasons(half(model, skip=("a", "c")))
    assert {"a", "b", "c"} <= set(found) and "between" in found["b"]


def test_infinities_are_no_overflow() -> None:
    """A MaxPool's padding, a mask: FP16 has infinities too, and what else is in the tensor is within its range."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float[1,1,2,2] y) <int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float big = {100}> {
            m = Mul (x, big) p = Pad (m, pads, low) y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (p) }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(-np.inf, np.float32), "low"))
    ranges = measured_ranges(model, noise(model), Path())
    assert 50 < ranges["p"] == ranges["m"] <= 100
    made = qdqgraph.to_fp16(model, magnitudes=ranges)
    assert not made.kept and not made.casts


def test_a_repair_that_only_the_raised_opset_allows_is_checked_against_the_input() -> None:
    """A scale per channel needs opset 13: QDQ303 repairs the FP16 model, which is in opset 19, not the given one."""
    model = onnx.parser.parse_model("""<ir_version: 7, opset_import: ["" : 12]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8}, float sw = {0.01}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear (w, sw, z)
            c = Conv (d, k) a = Add (c, d) r = QuantizeLinear (a, s, z) y = DequantizeLinear (r, s, z)
        }""")
    result = qdqgraph.fix(model, qdqgraph.rules(), fp16=True, numerics=True)
    assert [f.code for f in result.applied] == ["QDQ303"]
    assert result.start == model and not result.found
    assert result.numbers is not None and result.numbers.reference == "the input" and result.numbers.outputs
