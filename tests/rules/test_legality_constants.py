"""Weights and other constants that the graph computes: they stay weights, and every repair works on their values."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qdqgraph
from qdqgraph import Safety
from qdqgraph.model import runtime
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.verify.comparison import compare
from tests.support.engines import builds
from tests.support.models import build

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
CONSTANTS = """<float s = {0.05}, int8 z = {0}, float[2,2,1,1] v = {0.5, -0.25, 0.125, 1}, float[2,1,1,1] gain = {2, 0.5},
    float[2] sw = {0.02, 0.01}, int8[2] zw = {0, 0}, uint8[2] zu = {130, 120}, uint8[2] z128 = {128, 128},
    int16[2] z16 = {0, 0}, float[2] s4 = {0.15, 0.08}, int32[2] bias = {100, -50}, int32[2] more = {1, 2},
    float sb = {0.0005}, int32 zb = {0}, int8[2,2,1,1] i = {60, -50, 25, 60}, int64[2] turn = {1, 0}>"""
DATA = "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)"


def model_of(body: str, size: str = "float[1,2,3,3] y") -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"{HEAD} g (float[1,2,3,3] x) => ({size}) {CONSTANTS} {{ {DATA} {body} }}")
    model.graph.initializer.append(onnx.helper.make_tensor("z4", onnx.TensorProto.INT4, [2], [0, 0]))
    onnx.checker.check_model(model, full_check=True)
    return model


def fixed(model: onnx.ModelProto, least: float) -> qdqgraph.Result:
    result = qdqgraph.fix(model)
    feed = {"x": np.random.default_rng(3).uniform(-6, 6, (1, 2, 3, 3)).astype(np.float32)}
    assert all(c.identical or c.sqnr >= least for c in compare(model, result.model, [feed], Path()).values())
    assert not qdqgraph.fix(result.model).plan.edits
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    return result


def weights(result: qdqgraph.Result) -> tuple[str, tuple[int, ...], int | None]:
    """Type of the integers, shape of the scale and axis of the pair that the layer reads as weights."""
    graph = Graph(result.model)
    layer = graph.nodes("Conv", "ConvTranspose")[0]
    pair = pairs(graph).made(layer.inputs[1].name)
    assert pair is not None and pair.scale is not None and pair.kind == "weight"
    return pair.types[1], pair.scale.shape, pair.axis


PATHS = {
    "a product": "w = Mul (v, gain)",
    "a weight norm": "n = ReduceL2 <keepdims = 1> (v, k)  u = Div (v, n)  w = Mul (u, gain)  k = Constant <value = int64[3] {1, 2, 3}> ()",
    "a sum with a product": "a = Reshape (s4, c)  c = Constant <value = int64[2] {2, 1}> ()  t = Transpose (a)  p = MatMul (a, t)  r = Shape (v)  o = Reshape (p, r)  w = Add (v, o)",
    "a Concat": "a, b = Split <axis = 0, num_outputs = 2> (v)  w = Concat <axis = 0> (b, a)",
    "dequantized integers": "e = DequantizeLinear <axis = 0> (i, sw, zw)  w = Mul (e, gain)",
    "a Gather": "w = Gather (v, turn)",
}


def path(text: str) -> str:
    """The statements of a path, with every Constant first."""
    parts = [p for p in text.split("  ") if p]
    return "  ".join(sorted(parts, key=lambda p: "Constant" not in p))


@pytest.mark.parametrize("text", PATHS.values(), ids=PATHS)
def test_per_channel_scales_stay(text: str) -> None:
    """QDQ404 is about activations, whatever computes the weights."""
    body = f"{path(text)}  j = QuantizeLinear <axis = 0> (w, sw, zw)  k2 = DequantizeLinear <axis = 0> (j, sw, zw)  y = Conv (d, k2)"
    result = fixed(model_of(body), 50)
    assert weights(result) == ("int8", (2,), 0)
    assert {f.code for f in result.applied} <= {"QDQ425"}


@pytest.mark.parametrize("text", PATHS.values(), ids=PATHS)
def test_asymmetric_uint8_becomes_int8_per_channel(text: str) -> None:
    body = f"{path(text)}  j = QuantizeLinear <axis = 0> (w, sw, zu)  k2 = DequantizeLinear <axis = 0> (j, sw, zu)  y = Conv (d, k2)"
    assert weights(fixed(model_of(body), 30)) == ("int8", (2,), 0)


@pytest.mark.parametrize(("zero", "scale", "least"), [("z128", "sw", 50), ("z4", "s4", 50)])
def test_another_type_becomes_int8(zero: str, scale: str, least: float) -> None:
    body = f"w = Mul (v, gain)  j = QuantizeLinear <axis = 0> (w, {scale}, {zero})  k2 = DequantizeLinear <axis = 0> (j, {scale}, {zero})  y = Conv (d, k2)"
    assert weights(fixed(model_of(body), least)) == ("int8", (2,), 0)


def test_16_bits_become_float() -> None:
    body = "w = Mul (v, gain)  j = QuantizeLinear <axis = 0> (w, sw, z16)  k2 = DequantizeLinear <axis = 0> (j, sw, z16)  y = Conv (d, k2)"
    result = fixed(model_of(body), 40)
    assert not [p for p in pairs(Graph(result.model)) if p.kind == "weight"]


def test_a_transposed_convolution_has_its_axis() -> None:
    body = "w = Mul (v, gain)  j = QuantizeLinear <axis = 0> (w, sw, zw)  k2 = DequantizeLinear <axis = 0> (j, sw, zw)  y = ConvTranspose (d, k2)"
    assert weights(fixed(model_of(body), 30)) == ("int8", (2,), 1)


def test_one_finding_for_a_bias_of_32_bits_and_no_node_is_left_of_its_path() -> None:
    body = "b = Add (bias, more)  f = DequantizeLinear (b, sb, zb)  k2 = DequantizeLinear <axis = 0> (i, sw, zw)  y = Conv (d, k2, f)"
    model = model_of(body)
    found = [f.code for f in qdqgraph.check(model) if f.place == "f"]
    result = fixed(model, 200)
    assert found == ["QDQ406"]
    assert {n.op_type for n in result.model.graph.node} == {"QuantizeLinear", "DequantizeLinear", "Conv"}


def test_integers_are_exact_where_every_operator_rounds_once() -> None:
    tail = "j = QuantizeLinear <axis = 0> (w, sw, zw)  k2 = DequantizeLinear <axis = 0> (j, sw, zw)  y = Conv (d, k2)"
    exact, near = (qdqgraph.fix(model_of(f"{path(PATHS[p])}  {tail}")) for p in ("a product", "a weight norm"))
    assert [f.safety for f in exact.applied] == [Safety.EXACT]
    assert [f.safety for f in near.applied] == [Safety.LOSSY]


def test_a_factor_that_a_caller_may_set_is_not_folded() -> None:
    body = f"{DATA} w = Mul (v, gain)  j = QuantizeLinear <axis = 0> (w, sw, zw)  k2 = DequantizeLinear <axis = 0> (j, sw, zw)  y = Conv (d, k2)"
    head = "g (float[1,2,3,3] x, float[2,1,1,1] gain) => (float[1,2,3,3] y)"
    model = onnx.parser.parse_model(f"{HEAD} {head} {CONSTANTS} {{ {body} }}")
    assert not qdqgraph.fix(model).plan.edits


def test_a_scale_computed_from_constants_is_stored_without_its_path() -> None:
    body = "m = Abs (s)  c = Neg (m)  e = Abs (c)  q2 = QuantizeLinear (d, e, z)  y = DequantizeLinear (q2, e, z)"
    result = fixed(model_of(body), 200)
    assert {n.op_type for n in result.model.graph.node} <= {"QuantizeLinear", "DequantizeLinear", "Identity"}


TABLES = {
    "a Gather": "y = Gather (k2, ids)",
    "a sum": "g = Gather (k2, ids)  y = Relu (g)",
    "a MatMul in float": "y = MatMul (f, k2)",
}


@pytest.mark.parametrize("zero", ["uint8 z = {7}", "int8 z = {-9}"])
@pytest.mark.parametrize("body", TABLES.values(), ids=TABLES)
def test_a_table_that_no_int8_layer_reads_keeps_its_values(body: str, zero: str) -> None:
    kind, low = zero.split()[0], -128 if zero.startswith("int8") else 0
    values = ", ".join(str(low + 17 * n) for n in range(16))
    model = onnx.parser.parse_model(
        f"""{HEAD} g (int64[4] ids, float[4,4] f) => (float[4,4] y) <{kind}[4,4] w = {{{values}}}, float s = {{0.03}}, {zero}> {{
            k2 = DequantizeLinear (w, s, z)  {body} }}"""
    )
    result = qdqgraph.fix(model)
    feed: runtime.Feed = {"ids": np.array([3, 0, 2, 1], np.int64), "f": np.eye(4, dtype=np.float32)}
    assert all(c.identical for c in compare(model, result.model, [feed], Path()).values())
    assert not len(pairs(Graph(result.model))) and [f.safety for f in result.applied] == [Safety.EXACT]
    assert "four times the size" in result.applied[0].help


def test_a_table_that_an_int8_layer_reads_becomes_int8() -> None:
    """Its values move through a Gather to a MatMul whose other operand is INT8."""
    values = ", ".join(str(17 * n) for n in range(16))
    model = onnx.parser.parse_model(
        f"""{HEAD} g (int64[4] ids, float[4,4] f) => (float[4,4] y) <uint8[4,4] w = {{{values}}}, float s = {{0.03}}, uint8 z = {{7}},
            float t = {{0.02}}, int8 zero = {{0}}> {{
            q = QuantizeLinear (f, t, zero)  d = DequantizeLinear (q, t, zero)
            k2 = DequantizeLinear (w, s, z)  g = Gather (k2, ids)  y = MatMul (d, g) }}"""
    )
    result = qdqgraph.fix(model)
    assert {p.types[1] for p in pairs(Graph(result.model))} == {"int8"} and len(pairs(Graph(result.model))) == 2


def test_a_table_with_an_exact_int8_form_stays_small() -> None:
    model = onnx.parser.parse_model(
        f"""{HEAD} g (int64[2] ids) => (float[2,2] y) <uint8[2,2] w = {{128, 255, 1, 130}}, float s = {{0.03}}, uint8 z = {{128}}> {{
            k2 = DequantizeLinear (w, s, z)  y = Gather (k2, ids) }}"""
    )
    result = qdqgraph.fix(model)
    assert [i.data_type for i in result.model.graph.initializer if i.dims] == [onnx.TensorProto.INT8]
    feed = {"ids": np.array([1, 0], np.int64)}
    assert all(c.identical for c in compare(model, result.model, [feed], Path()).values())


MOVED = {
    "concatenated": """k1 = DequantizeLinear (a, t, z)  k2 = DequantizeLinear (b, u, z)  w = Concat <axis = 0> (k1, k2)""",
    "concatenated along the inputs": """k1 = DequantizeLinear (c, t, z)  k2 = DequantizeLinear (c, t, z)
        w = Concat <axis = 1> (k1, k2)""",
    "permuted": "k1 = DequantizeLinear <axis = 0> (i, sw, zw)  w = Gather (k1, turn)",
    "padded": "k1 = DequantizeLinear (i, t, z)  p = Pad (k1, pads)  w = Slice (p, one, three)",
    "transposed as integers": "m = Transpose <perm = [1, 0, 2, 3]> (i)  w = DequantizeLinear <axis = 0> (m, sw, zw)",
    "a part of integers": "m, n = Split <axis = 0> (ii)  w = DequantizeLinear <axis = 0> (m, sw, zw)",
}


@pytest.mark.parametrize("text", MOVED.values(), ids=MOVED)
def test_moved_weights_keep_their_values_and_their_int8_layer(text: str, tmp_path: Path) -> None:
    """TensorRT-RTX refuses some of these, and runs the others in float."""
    random = np.random.default_rng(2)
    body = (
        f"q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  {text}  y = Conv <pads = [1, 1, 1, 1]> (d, w)"
    )
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,8,8] x) => (float[1,8,8,8] y) <float s = {{0.05}}, int8 z = {{0}},
            float t = {{0.01}}, float u = {{0.003}}, int64[1] one = {{1}}, int64[1] three = {{9}}> {{ {body} }}"""
    )
    sizes = {"a": (4, 8), "b": (4, 8), "c": (8, 4), "i": (8, 8), "ii": (16, 8)}
    arrays: dict[str, np.ndarray] = {
        name: random.integers(-127, 128, (*size, 3, 3)).astype(np.int8) for name, size in sizes.items()
    }
    arrays |= {"sw": random.uniform(0.001, 0.01, 8).astype(np.float32), "zw": np.zeros(8, np.int8)}
    arrays |= {"turn": random.permutation(8), "pads": np.array([1, 0, 0, 0, 1, 0, 0, 0], np.int64)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    result = qdqgraph.fix(model)
    feed: runtime.Feed = {"x": random.uniform(-6, 6, (1, 8, 8, 8)).astype(np.float32)}
    assert [(f.code, f.safety) for f in result.applied] == [("QDQ425", Safety.EXACT)]
    assert all(c.identical for c in compare(model, result.model, [feed], Path()).values())
    layers = [layer for layer in builds(result.model, tmp_path) if layer.kind == "correlation"]
    assert [layer.precision for layer in layers] == ["INT8"]


@pytest.mark.parametrize(
    ("computed", "safety"),
    [
        ("c = Transpose <perm = [1, 0]> (a)", Safety.EXACT),
        ("m = MatMul (a, a) c = Softmax (m)", Safety.LOSSY),
    ],
)
@pytest.mark.parametrize("integers", ["int8 v = {0}", "int8 v = {3}", "uint8 v = {3}"])
def test_a_stored_constant_is_bit_exact_only_if_every_implementation_computes_the_same(
    computed: str, safety: Safety, integers: str
) -> None:
    """The learned queries of a DETR decoder pass a whole attention layer; its sums differ between implementations."""
    text = f"""g (float[4,4] x) => (float[4,4] y) <float[4,4] a = {{{", ".join(str(i / 8) for i in range(16))}}}, {integers}> {{
        {computed} q = QuantizeLinear (c, s1, v) d = DequantizeLinear (q, s1, v) p = t.pair (x, s1) y = Add (p, d) }}"""
    found = [f for f in qdqgraph.check(build(text)) if f.place == "q" and f.edits]
    assert found and {f.safety for f in found} == {safety}
