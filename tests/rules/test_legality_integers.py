"""Integers that something moves, pads, casts or shows to the outside, and weights in odd places: made legal, or refused
with the node that is in the way."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qdqgraph
from qdqgraph import RepairError
from qdqgraph.calibration.noise import noise
from qdqgraph.model import runtime
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.verify import comparison
from tests.support.engines import builds
from tests.support.models import build, fixed

RANDOM = np.random.default_rng(3)
IMAGE, WIDER = "float[1,4,8,8]", "float[1,4,10,10]"
CONSTANTS: dict[str, np.ndarray] = {
    "s": np.array(0.05, np.float32),
    "t": np.array(0.03, np.float32),
    "z": np.array(0, np.int8),
    "u": np.array(100, np.uint8),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "halves": np.array([2, 2]),
    "w": RANDOM.integers(-100, 100, (4, 4, 1, 1)).astype(np.int8),
    "left": RANDOM.integers(-100, 100, (2, 8)).astype(np.int8),
    "per": RANDOM.uniform(0.01, 0.02, 8).astype(np.float32),
    "zeros": np.zeros(8, np.int8),
    "table": RANDOM.integers(0, 255, (7, 6)).astype(np.uint8),
}


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from its graph's text; the constants it reads become initializers."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in CONSTANTS.items() if n in used)
    return model


Q = "q = QuantizeLinear (x, s, u)"
GRAPHS: dict[str, tuple[str, float]] = {
    "a Pad that fills in the zero-point": (
        f"g ({IMAGE} x) => ({WIDER} y) {{ {Q} a = Pad (q, pads, u) y = DequantizeLinear (a, s, u) }}",
        25,
    ),
    "a Pad that fills in integer 0, which is no real zero": (
        f"g ({IMAGE} x) => ({WIDER} y) {{ {Q} a = Pad (q, pads) y = DequantizeLinear (a, s, u) }}",
        25,
    ),
    "a Pad that reflects": (
        f'g ({IMAGE} x) => ({WIDER} y) {{ {Q} a = Pad <mode = "reflect"> (q, pads) y = DequantizeLinear (a, s, u) }}',
        25,
    ),
    "Casts to float and back": (
        f"g ({IMAGE} x) => ({IMAGE} y) {{ {Q} a = Cast <to = 1> (q) b = Cast <to = 2> (a) y = DequantizeLinear (b, s, u) }}",
        25,
    ),
    "a Split of integers": (
        f"g ({IMAGE} x) => (float[1,2,8,8] y, float[1,2,8,8] v) {{ {Q} a, b = Split <axis = 1> (q, halves)"
        " y = DequantizeLinear (a, s, u) v = DequantizeLinear (b, s, u) }",
        25,
    ),
    "an input of integers in another order of axes": (
        f"g (uint8[1,8,8,4] x) => ({IMAGE} y) {{ p = Transpose <perm = [0, 3, 1, 2]> (x) d = DequantizeLinear (p, s, u)"
        " k = DequantizeLinear (w, t, z) y = Conv (d, k) }",
        40,
    ),
    "an output of integers that the network goes on with": (
        f"g ({IMAGE} x) => ({IMAGE} y, uint8[1,4,8,8] q) {{ {Q} d = DequantizeLinear (q, s, u) y = Relu (d) }}",
        25,
    ),
    "an embedding of integers, transposed": (
        "g (int64[1,5] x) => (float[1,6,5] y) { e = Gather (table, x) p = Transpose <perm = [0, 2, 1]> (e)"
        " y = DequantizeLinear (p, t, u) }",
        40,
    ),
    "weights on the left, with a scale for each column": (
        "g (float[8,3] x) => (float[2,3] y) { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"
        " k = DequantizeLinear <axis = 1> (left, per, zeros) y = MatMul (k, d) }",
        40,
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_integers_between_q_and_dq_become_pairs(name: str, tmp_path: Path) -> None:
    """What it costs is the symmetric grid alone; the result settles, is undone to the byte and builds."""
    text, least = GRAPHS[name]
    model = parsed(text)
    result = qdqgraph.fix(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    assert not qdqgraph.fix(result.model).plan.edits and not qdqgraph.check(result.model)
    found = comparison.compare(model, result.model, noise(model, 2), Path())
    assert min(a.sqnr for a in found.values()) > least
    assert builds(result.model, tmp_path)


REFUSED = {
    "integers that something computes with": (
        f"g ({IMAGE} x) => (int64[3,?] y) {{ {Q} y = NonZero (q) }}",
        "q: QDQ402 'x' is quantized to UINT8; TensorRT accepts INT8; NonZero(y) also reads its integers 'q'",
    ),
    "integers of two scales in one tensor": (
        f"g ({IMAGE} x) => (float[1,8,8,8] y) {{ {Q} p = QuantizeLinear (x, t, u) c = Concat <axis = 1> (q, p)"
        " y = DequantizeLinear (c, s, u) }",
        "c: QDQ414 Concat moves the integers 'q'; export the model with Q/DQ pairs: the inputs have different scales",
    ),
    "a subgraph that dequantizes": (
        f"g ({IMAGE} x, bool c) => ({IMAGE} y) {{ {Q} y = If (c) <then_branch = a () => ({IMAGE} o)"
        f" {{ o = DequantizeLinear (q, s, u) }}, else_branch = b () => ({IMAGE} p) {{ e = DequantizeLinear (q, s, u) p = Neg (e) }}> }}",
        "a subgraph of If(y) also reads its integers 'q'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_in_the_way_is_named(name: str) -> None:
    text, said = REFUSED[name]
    model = parsed(text)
    inner = {n for node in model.graph.node for a in node.attribute for sub in a.g.node for n in sub.input}
    there = {t.name for t in model.graph.initializer}
    model.graph.initializer.extend(numpy_helper.from_array(CONSTANTS[n], n) for n in inner & CONSTANTS.keys() - there)
    with pytest.raises(RepairError, match=re.escape(said)):
        qdqgraph.fix(model)


@pytest.mark.parametrize("block", [0, 16])
def test_uint4_weights_around_8_are_int4_to_the_bit(block: int) -> None:
    """onnxruntime's 4-bit quantizer writes them in blocks; TensorRT has INT4 only."""
    attributes, shape = (f"<axis = 0, block_size = {block}>", [2, 3]) if block else ("", [])
    model = parsed(
        f"g (float[2,32] x) => (float[2,3] y) {{ k = DequantizeLinear {attributes} (i, c, o) y = MatMul (x, k) }}", 21
    )
    count = int(np.prod(shape))
    model.graph.initializer.extend(
        [
            helper.make_tensor("i", TensorProto.UINT4, [32, 3], RANDOM.integers(0, 15, 96).tolist()),
            helper.make_tensor("o", TensorProto.UINT4, shape, [8] * count),
            helper.make_tensor("c", TensorProto.FLOAT, shape, RANDOM.uniform(0.01, 0.1, count).tolist()),
        ]
    )
    result = qdqgraph.fix(model, exact=True)
    assert [f.code for f in result.applied] == ["QDQ402"]
    found = comparison.compare(model, result.model, noise(model, 2), Path())
    assert found["y"].identical
    model.graph.initializer[1].CopyFrom(helper.make_tensor("o", TensorProto.UINT4, shape, [7] * count))
    result = qdqgraph.fix(model, exact=True)
    assert comparison.compare(model, result.model, noise(model, 2), Path())["y"].identical
    assert bool(len(pairs(Graph(result.model)))) == (not block)  # INT8, or floats: TensorRT has no blocks of INT8


def test_a_pool_with_channels_last_becomes_one_with_channels_first_to_the_bit() -> None:
    model = parsed(
        """g (float[1,4,8,8] x) => (float[1,1,4,8] y) { q = QuantizeLinear (x, s, z)
            p = com.microsoft.NhwcMaxPool <kernel_shape = [3, 2], strides = [2, 2]> (q) y = DequantizeLinear (p, s, z) }"""
    )
    model.opset_import.add(domain="com.microsoft", version=1)
    result = qdqgraph.fix(model, exact=True)
    assert {f.code for f in result.applied} == {"QDQ414"} and not any(n.domain for n in result.model.graph.node)
    assert comparison.compare(model, result.model, noise(model, 2), Path())["y"].identical


@pytest.mark.parametrize("other", [8, 7])
def test_uint4_weights_that_two_nodes_read_with_parameters_of_their_own_keep_both(other: int) -> None:
    """Each DequantizeLinear is a pair of its own: none gets the other's scale; one that is not around 8 becomes INT8."""
    model = parsed(
        """g (float[2,32] x) => (float[2,3] y, float[2,3] v) { k = DequantizeLinear (i, c, o) y = MatMul (x, k)
            l = DequantizeLinear (i, e, p) v = MatMul (x, l) }""",
        21,
    )
    model.graph.initializer.extend(
        [
            helper.make_tensor("i", TensorProto.UINT4, [32, 3], RANDOM.integers(0, 15, 96).tolist()),
            helper.make_tensor("o", TensorProto.UINT4, [], [8]),
            helper.make_tensor("p", TensorProto.UINT4, [], [other]),
            helper.make_tensor("c", TensorProto.FLOAT, [], [0.05]),
            helper.make_tensor("e", TensorProto.FLOAT, [], [0.02]),
        ]
    )
    found = comparison.compare(model, qdqgraph.fix(model, exact=True).model, noise(model, 2), Path())
    assert found["y"].identical and found["v"].identical


def test_weights_that_two_operators_read_along_different_axes_keep_one_scale() -> None:
    """A convolution wants scales along axis 0, its transpose along axis 1: one for all serves both, and stays."""
    model = parsed(
        f"""g ({IMAGE} x) => ({IMAGE} y, {IMAGE} v) {{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            k = DequantizeLinear (w8, t, u) y = Conv (d, k) v = ConvTranspose (d, k) }}"""
    )
    array = CONSTANTS["w"].astype(np.int16) + 100
    model.graph.initializer.append(numpy_helper.from_array(array.astype(np.uint8), "w8"))
    result: Any = qdqgraph.fix(model)
    pair = pairs(Graph(result.model)).made("k")
    assert pair is not None and pair.per_tensor and pair.types[1] == "int8"
    assert not qdqgraph.fix(result.model).plan.edits


def test_a_clip_inside_a_hardswish_stays_one_when_its_pair_goes() -> None:
    """quantize_static removes Clip(0, 6) before the pair; QDQ301 removes the pair inside the block: the limit of six remains."""
    model = build(
        f"""g ({IMAGE} x) => ({IMAGE} y) <float three = {{3}}, float six = {{6}}, float big = {{0.5}}, float s = {{{6 / 255!r}}},
            uint8 u = {{0}}> {{
            c = t.conv4 (x, s1) a = Add (c, three) q = QuantizeLinear (a, s, u) d = DequantizeLinear (q, s, u)
            m = Mul (c, d) h = Div (m, six) y = t.conv4 (h, big) }}"""
    )
    result = qdqgraph.fix(model)
    assert {"QDQ301", "QDQ402"} <= {f.code for f in result.applied}
    assert [n.op_type for n in result.model.graph.node if n.op_type in ("Clip", "Relu")] == ["Clip"]
    x = [{"x": RANDOM.uniform(-12, 12, (1, 4, 8, 8)).astype(np.float32)}]
    assert comparison.compare(model, result.model, x, Path())["y"].sqnr > 30


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_a_clip_that_a_hardswish_left_to_the_pair_behind_its_relu_is_written_as_the_pair_goes(kind: str) -> None:
    """The Relu is the lower limit; the upper limit of six is only in the range of the pair, and remains without it."""
    scale = 6 / (255 if kind == "uint8" else 127)
    model = build(
        f"""g ({IMAGE} x) => ({IMAGE} y) <float three = {{3}}, float six = {{6}}, float big = {{0.5}}, float s = {{{scale!r}}},
            {kind} u = {{0}}> {{
            c = t.conv4 (x, s1) a = Add (c, three) r = Relu (a) q = QuantizeLinear (r, s, u)
            d = DequantizeLinear (q, s, u) m = Mul (c, d) h = Div (m, six) y = t.conv4 (h, big) }}"""
    )
    result = fixed(model)
    graph = Graph(result.model)
    (clip,) = graph.nodes("Clip")
    low, high = (graph.value(t.name) for t in clip.inputs[1:])
    assert low == 0 and high == pytest.approx(6, rel=1e-6)
    assert [t.name for t in graph.node("m").inputs] == ["c", clip.outputs[0].name]
    assert {p.site for p in pairs(graph) if p.kind == "activation"} == {"x", "h"}
    x = [{"x": RANDOM.uniform(-12, 12, (1, 4, 8, 8)).astype(np.float32)}]
    assert comparison.compare(model, result.model, x, Path())["y"].sqnr > 30


def test_without_a_pair_behind_it_a_hardswish_keeps_the_pair_that_limits_it() -> None:
    model = build(
        f"""g ({IMAGE} x) => ({IMAGE} y) <float three = {{3}}, float s = {{{6 / 127!r}}}, int8 u = {{0}}> {{
            c = t.conv4 (x, s1) a = Add (c, three) r = Relu (a) q = QuantizeLinear (r, s, u)
            d = DequantizeLinear (q, s, u) y = Mul (c, d) }}"""
    )
    result = fixed(model)
    assert not Graph(result.model).nodes("Clip") and pairs(Graph(result.model)).at("r")
    assert [f.help for f in result.left if f.code == "QDQ301"] == ["move the pair after the activation"]


def test_a_relu_in_front_of_a_convolution_is_written_as_a_relu() -> None:
    """There the pair stays and ends the range itself; TensorRT fuses Relu with the convolution in front."""
    model = parsed(
        f"""g ({IMAGE} x) => ({IMAGE} y) {{ c = Conv (x, f) q = QuantizeLinear (c, s, o) d = DequantizeLinear (q, s, o)
            k = DequantizeLinear (w, t, z) y = Conv (d, k) }}"""
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "f"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "o"))
    assert {n.op_type for n in qdqgraph.fix(model).model.graph.node} & {"Relu", "Clip"} == {"Relu"}


@pytest.mark.parametrize("channels", [False, True])
def test_weights_within_127_steps_of_their_zero_point_keep_every_number(channels: bool) -> None:
    """Their scale serves INT8 as well; only a channel that reaches further is rounded anew."""
    model = parsed(
        f"""g ({IMAGE} x) => ({IMAGE} y) {{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            k = DequantizeLinear {"<axis = 0>" if channels else ""} (w8, c, o) y = Conv (d, k) }}"""
    )
    integers = RANDOM.integers(0, 228, (4, 4, 1, 1)).astype(np.uint8)
    shape = 4 if channels else ()
    zero = np.full(shape, 100, np.uint8)
    scale = np.asarray(RANDOM.uniform(0.01, 0.02, shape), np.float32)
    named: dict[str, np.ndarray] = {"w8": integers, "c": scale, "o": zero}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in named.items())
    feeds = noise(model, 2)
    assert comparison.compare(model, qdqgraph.fix(model).model, feeds, Path())["y"].identical
    integers[2, 0] = 255
    place = [i.name for i in model.graph.initializer].index("w8")
    model.graph.initializer[place].CopyFrom(numpy_helper.from_array(integers, "w8"))
    a, b = (runtime.run(m, feeds, Path())[0][0] for m in (model, qdqgraph.fix(model).model))
    assert np.array_equal(a[:, [0, 1, 3]], b[:, [0, 1, 3]]) and not np.array_equal(a[:, 2], b[:, 2])


def test_scales_for_each_channel_in_an_operator_set_that_knows_none_raise_it() -> None:
    """quantize_static(per_channel=True) writes such files from older models; onnxruntime itself cannot run them."""
    text = f"""g ({IMAGE} x) => ({IMAGE} y) {{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
        k = DequantizeLinear <axis = 0> (w, c, o) y = Conv (d, k) }}"""
    older, later = parsed(text, 11), parsed(text, 13)
    for model in (older, later):
        model.graph.initializer.append(numpy_helper.from_array(CONSTANTS["per"][:4], "c"))
        model.graph.initializer.append(numpy_helper.from_array(CONSTANTS["zeros"][:4], "o"))
    found = {f.code: f.message for f in qdqgraph.check(older)}
    assert found["QDQ405"] == "the weights 'w' have 4 scales; opset 11 has no per-channel scales"
    result = qdqgraph.fix(older)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.model.opset_import[0].version == 13
    assert result.plan.inverse().apply(result.model).SerializeToString() == older.SerializeToString()
    assert comparison.compare(later, result.model, noise(later, 2), Path())["y"].identical
