"""Types and shapes of tensors, in one pass over the network."""

from __future__ import annotations

import warnings

import onnx
import pytest

from qdqgraph.model.shapes import infer
from qdqgraph.model.text import parse


def test_the_type_of_a_tensor_of_unknown_rank_is_known() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]>'
        "g (float[N,8] x, int64[R] shape) => (float y) { r = Reshape (x, shape)  y = Relu (r) }"
    )
    found = infer(model)
    assert found["r"] == (onnx.TensorProto.FLOAT, None)


@pytest.mark.parametrize(
    "nodes",
    [
        "c = Div (a, zero)",
        "b = Div (a, zero)\n c = Mul (b, zero)",
        "c = Mul (large, large)",
        "b = Div (zero, zero)\n i = Cast <to = 7> (b)\n c = Cast <to = 1> (i)",
        "n = Div (one, none)\n c = Cast <to = 1> (n)",
    ],
    ids=["divided by zero", "not a number", "overflow", "not a number as an integer", "integer divided by zero"],
)
def test_constants_without_a_finite_value_print_no_warning(nodes: str) -> None:
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2] x) => (float[1,2] y)
        <float[2] a = {{1, -1}}, float[2] zero = {{0, 0}}, float[2] large = {{3e38, 3e38}}, int64[1] one = {{1}}, int64[1] none = {{0}}>
        {{
            {nodes}
            y = Add (x, c)
        }}""")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert infer(model)["y"][1] == (1, 2)
