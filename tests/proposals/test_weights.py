"""Weights on another scale: what is kept, and what is rounded again."""

import numpy as np
import onnx
import pytest

from qdqgraph.proposals.weights import least_scale
from qdqgraph.rulekit import Graph, make_symmetric, pairs, refit
from tests.support.models import build


@pytest.mark.parametrize(
    ("least", "scale", "integers"),
    [(-127, 0.5, [-127, 64]), (-128, 64 / 127, [-127, 64])],
    ids=["INT8 around zero", "a value that only -128 reaches"],
)
def test_a_scale_is_kept_unless_a_weight_lies_128_steps_from_zero(
    least: int, scale: float, integers: list[int]
) -> None:
    """INT8 around zero ends at -127: TensorRT leaves -128 unused, so 128 steps need a larger scale."""
    text = f"""g (float[1,1,2,2] x) => (float[1,2,2,2] y) <int8[2,1,1,1] w = {{{least}, 64}}, float s = {{0.5}}, int8 z = {{0}}> {{
        a = t.pair (x, s1)  k = DequantizeLinear (w, s, z)  y = Conv (a, k) }}"""
    graph = Graph(build(text))
    (weights,) = (pair for pair in pairs(graph) if pair.kind == "weight")
    edit = refit(graph, weights, None)
    assert edit is not None and edit.integers is not None
    assert float(edit.scale.array) == np.float32(scale)
    assert edit.integers.array.reshape(-1).tolist() == integers


def test_the_smallest_usable_scale_of_bfloat16_is_that_of_float32() -> None:
    kind = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    assert least_scale(kind) == least_scale(np.dtype(np.float32)) == 2.0**-126
    assert least_scale(np.dtype(np.float16)) == 2.0**-24


def test_weights_with_an_infinite_scale_are_not_made_symmetric() -> None:
    text = """g (float[1,2,2,2] x) => (float[1,2,2,2] y) <uint8[2,2,1,1] w = {1, 2, 3, 4}, float[2] s = {0.5, inf},
        uint8[2] z = {1, 1}> { a = t.pair (x, s1)  k = DequantizeLinear <axis = 0> (w, s, z)  y = Conv (a, k) }"""
    graph = Graph(build(text))
    (weights,) = (pair for pair in pairs(graph) if pair.kind == "weight")
    assert make_symmetric(graph, weights) is None
