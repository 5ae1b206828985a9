"""Which tensors are constant, and their values: those of ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from qdqgraph.graph.constants import LARGEST, constants
from qdqgraph.graph.quantization import Quantization
from qdqgraph.model import runtime
from qdqgraph.rulekit import Graph, pairs

RANDOM = np.random.default_rng(5)
ARRAYS = {
    "w": RANDOM.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "v": RANDOM.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "g": RANDOM.uniform(0.5, 2, size=(4, 1, 1, 1)).astype(np.float32),
    "m": RANDOM.normal(size=(4, 5)).astype(np.float32),
    "n": RANDOM.normal(size=(5, 6)).astype(np.float32),
    "i": RANDOM.integers(-128, 128, (4, 3, 2, 2)).astype(np.int8),
    "u": RANDOM.integers(0, 256, (4, 3, 2, 2)).astype(np.uint8),
    "s": RANDOM.uniform(0.001, 0.1, 4).astype(np.float32),
    "t": np.float32(0.01),
    "z": np.zeros(4, np.int8),
    "z7": np.uint8(7),
    "b": np.array([1, 0, 3], np.int64),
    "four": np.array([4, 12], np.int64),
    "one": np.array([1], np.int64),
    "three": np.array([3], np.int64),
    "wide": np.array([4, 3, 2, 2], np.int64),
    "half": np.array(0.25, np.float16),
    "h": RANDOM.normal(size=(4, 3)).astype(np.float16),
}


def graph_of(body: str, inputs: str = "float[1] x", outputs: str = "c", version: int = 17, ir: int = 8) -> Graph:
    """A graph with the constants of `ARRAYS`, whose outputs have no type in the text."""
    text = f'<ir_version: {ir}, opset_import: ["" : {version}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in ARRAYS.items())
    return Graph(onnx.shape_inference.infer_shapes(model))


def outputs_of(graph: Graph) -> np.ndarray:
    return np.asarray(runtime.run(graph.model, [{"x": np.zeros(1, np.float32)}], Path())[0][0])


EXACT = {
    "a product": "c = Mul (w, g)",
    "a quotient of a difference": "d = Sub (w, v)  c = Div (d, g)",
    "a convolution's scale": "a = Abs (g)  n0 = Neg (a)  r = Relu (n0)  x0 = Max (g, r)  c = Min (x0, g)",
    "a Concat of parts": "p, q, r0 = Split <axis = 1> (w)  c = Concat <axis = 1> (r0, p, q)",
    "a Slice": "c = Slice (w, one, three)",
    "a Transpose": "c = Transpose <perm = [3, 1, 0, 2]> (w)",
    "a Reshape to the shape of another": "k = Shape (v)  f = Reshape (w, four)  c = Reshape (f, k)",
    "a Gather": "c = Gather (w, b)",
    "a Where": "k = Greater (w, v)  c = Where (k, w, v)",
    "an Expand of a ConstantOfShape": "o = ConstantOfShape <value = float[1] {0.5}> (one)  c = Expand (o, wide)",
    "a Pad": "p = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 0}> ()  c = Pad (w, p)",
    "a Cast to FP16 and back": "k = Cast <to = 10> (w)  c = Cast <to = 1> (k)",
    "an FP16 product": "c = Mul (h, half)",
    "integers": "c = DequantizeLinear <axis = 0> (i, s, z)",
    "asymmetric integers": "c = DequantizeLinear (u, t, z7)",
    "a second quantization": """d = DequantizeLinear <axis = 0> (i, s, z)  q = QuantizeLinear (d, t, z7)
        c = DequantizeLinear (q, t, z7)""",
    "quantized weights": "p = Mul (w, g)  c = QuantizeLinear <axis = 0> (p, s, z)",
    "a Dropout": "c = Dropout (w)",
}
"""Whatever moves, compares or rounds once has the bits of ONNX Runtime."""
NEAR = {
    "a weight norm": "n0 = ReduceL2 <axes = [1, 2, 3]> (w)  d = Div (w, n0)  c = Mul (g, d)",
    "weight standardization": """m0 = ReduceMean <axes = [1, 2, 3]> (w)  d = Sub (w, m0)  q = Mul (d, d)
        e = ReduceMean <axes = [1, 2, 3]> (q)  r = Sqrt (e)  c = Div (d, r)""",
    "a MatMul": "c = MatMul (m, n)",
    "a Gemm": "c = Gemm <alpha = 0.5> (m, n)",
    "a power": "c = Pow (w, t)",
    "an If on a constant": """k = Cast <to = 9> (t)
        c = If (k) <then_branch = yes () => (float[4,3,2,2] p) { p = Mul (w, g) },
                    else_branch = no () => (float[4,3,2,2] p) { p = Mul (v, g) }>""",
}


@pytest.mark.parametrize("body", EXACT.values(), ids=EXACT)
def test_a_constant_has_the_bits_of_onnxruntime(body: str) -> None:
    graph = graph_of(body)
    value, expected = graph.value("c"), outputs_of(graph)
    assert graph.is_constant("c") and value is not None
    assert (value.dtype, value.shape) == (expected.dtype, expected.shape) and value.tobytes() == expected.tobytes()
    assert graph.is_reproducible("c") == ("Dropout" not in body)


@pytest.mark.parametrize("body", NEAR.values(), ids=NEAR)
def test_a_sum_of_many_products_is_not_reproducible(body: str) -> None:
    graph = graph_of(body)
    value, expected = graph.value("c"), outputs_of(graph)
    assert graph.is_constant("c") and not graph.is_reproducible("c") and value is not None
    assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "c = Mul (w, x)",
        "k = Shape (x)  c = ConstantOfShape (k)",
        "c = RandomNormal <shape = [2]> ()",
        "c = RandomNormalLike (w)",
        "o = Constant <value = bool {1}> ()  c = Dropout (w, t, o)",
        "k = Cast <to = 9> (x)  c = If (k) <then_branch = a () => (float p) { p = Neg (t) }, else_branch = b () => (float p) { p = Abs (t) }>",
        "k = Cast <to = 9> (t)  c = If (k) <then_branch = a () => (float[1] p) { p = Neg (x) }, else_branch = b () => (float[1] p) { p = Abs (x) }>",
        "k = Cast <to = 9> (t)  c = If (k) <then_branch = a () => (float[4] p) { p = RandomNormalLike (s) }, else_branch = b () => (float[4] p) { p = Abs (s) }>",
    ],
)
def test_what_an_input_or_chance_decides_is_not_constant(body: str) -> None:
    graph = graph_of(body)
    assert not graph.is_constant("c") and graph.value("c") is None and not graph.is_reproducible("c")


def test_a_custom_operator_may_do_anything() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g (float x) => (float c) <float k = {1}> { c = own.Same (k) }'
    assert not Graph(onnx.parser.parse_model(text)).is_constant("c")


def test_an_initializer_that_is_also_an_input_stays_constant() -> None:
    """TensorRT creates no network input for it."""
    graph = graph_of("c = Mul (w, g)", "float[1] x, float[4,1,1,1] g")
    assert graph.is_constant("g") and graph.is_constant("c")


def test_a_value_too_large_to_compute_is_unknown() -> None:
    graph = graph_of("k = Constant <value = int64[2] {65536, 65536}> ()  c = Expand (t, k)")
    assert LARGEST < 65536**2 and graph.is_constant("c") and graph.value("c") is None


def test_a_deep_path_takes_linear_time() -> None:
    """Each of 200 sums reads the last one twice: 2 ** 200 paths lead to the first."""
    steps = " ".join(f"a{n} = Add (a{n - 1}, a{n - 1})  b{n} = Mul (a{n}, t)" for n in range(1, 200))
    graph = graph_of(f"a0 = Mul (w, t) {steps} c = Sub (a100, b100)")
    assert graph.is_constant("a199") and graph.value("c") is not None
    assert len(constants(graph).path("c")) == 103


def test_values_can_be_computed_from_others() -> None:
    graph = graph_of("d = DequantizeLinear <axis = 0> (i, s, z)  c = Concat <axis = 0> (d, d)")
    value = constants(graph).value("c", {"d": np.ones(2, np.float32)})
    assert value is not None and value.tolist() == [1, 1, 1, 1]
    again = graph.value("c")
    assert again is not None and again.shape == (8, 3, 2, 2)


def test_a_pair_on_computed_constants_holds_weights() -> None:
    graph = graph_of(
        "p = Mul (w, g)  q = QuantizeLinear <axis = 0> (p, s, z)  c = DequantizeLinear <axis = 0> (q, s, z)"
    )
    assert [pair.kind for pair in pairs(graph)] == ["weight"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_what_is_no_number_is_quantized_as_onnxruntime_does(dtype: type[np.integer[Any]]) -> None:
    """NaN in damaged weights, infinity, and zero by a scale of zero; the values span more than one vector."""
    pytest.importorskip("onnxruntime")
    values = np.tile(np.array([np.nan, np.inf, -np.inf, 0, 1, 1e30, -0.0], np.float32), 7)
    for scale in (0.1, 0.0):
        own = Quantization(np.array(scale, np.float32), np.array(3, dtype))
        node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
        given = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [49])]
        made = [helper.make_tensor_value_info("q", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [49])]
        constants = [numpy_helper.from_array(own.scale, "s"), numpy_helper.from_array(own.zero_point, "z")]
        graph = helper.make_graph([node], "g", given, made, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        (found,), *_ = runtime.run(model, [{"x": values}], Path())
        assert np.array_equal(own.quantize(values), found)
