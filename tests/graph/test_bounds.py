"""Bounds: the interval that contains every value of a tensor, from the operators upstream."""

import math

import onnx
import pytest

from qdqgraph.rulekit import Graph, bounds

CASES = {
    "y = Sigmoid (x)": (0, 1),
    "y = Softmax (x)": (0, 1),
    "y = Tanh (x)": (-1, 1),
    "y = Relu (x)": (0, math.inf),
    "y = Clip (x, zero, six)": (0, 6),
    "y = Clip (x, , six)": (-math.inf, 6),
    "a = Sigmoid (x)  y = Clip (a, , half)": (0, 0.5),
    "a = Tanh (x)  y = Reshape (a, flat)": (-1, 1),
    "a = Sigmoid (x)  b = Tanh (x)  y = Concat <axis = 1> (a, b)": (-1, 1),
    "a = Sigmoid (x)  y = Concat <axis = 1> (a, wide)": (-8, 6),
    "a = Sigmoid (x)  y = Concat <axis = 1> (a, x)": (-math.inf, math.inf),
    "a = Sigmoid (x)  y = Mul (a, six)": (0, 6),
    "a = Tanh (x)  b = Sigmoid (x)  y = Mul (a, b)": (-1, 1),
    "a = Tanh (x)  y = Add (a, six)": (5, 7),
    "a = Sigmoid (x)  y = Sub (six, a)": (5, 6),
    "a = Sigmoid (x)  y = Div (a, half)": (0, 2),
    "a = Tanh (x)  y = Neg (a)": (-1, 1),
    "a = Sigmoid (x)  y = MaxPool <kernel_shape = [2, 2]> (a)": (0, 1),
    "a = Tanh (x)  y = AveragePool <kernel_shape = [2, 2]> (a)": (-1, 1),
    "a = Clip (x, six, )  b = Sigmoid (a)  y = Add (a, b)": (6, math.inf),
    "a = Clip (x, zero, six)  y = Min (a, half)": (0, 0.5),
    "a = Cast <to = 9> (x)  b = Sigmoid (x)  y = Where (a, b, six)": (0, 6),
    "a = Cast <to = 9> (x)  y = Cast <to = 1> (a)": (0, 1),
    "a = Sigmoid (x)  q = QuantizeLinear (a, s, z)  y = DequantizeLinear (q, s, z)": (0, 0.9),
    "q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z)": (-math.inf, math.inf),
    "a = Sigmoid (x)  y = Add (a, x)": (-math.inf, math.inf),
    "a = Sigmoid (x)  y = Conv (a, w)": (-math.inf, math.inf),
}


@pytest.mark.parametrize("body", CASES)
def test_what_an_operator_bounds_stays_bounded_downstream(body: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float y)
        <float zero = {{0}}, float six = {{6}}, float half = {{0.5}}, float[1,1,4,1] wide = {{-8, 1, 2, 6}},
         float s = {{0.3}}, int8 z = {{0}}, float[1,1,1,1] w = {{3}}, int64[1] flat = {{-1}}> {{ {body} }}"""
    low, high = bounds(Graph(onnx.parser.parse_model(text))).of("y")
    assert (low, high) == pytest.approx(CASES[body])
