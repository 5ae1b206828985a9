"""Models for tests, in ONNX text: `t.pair`, `t.conv4` and their like are inlined, so that a test shows only its shape."""

import re

import numpy as np
import onnx
import onnx.inliner

import qdqgraph
from qdqgraph import Options, Result
from qdqgraph.rulekit import Graph, pairs

FUNCTIONS = """
<domain: "t", opset_import: ["" : 17]>
pair (x, s) => (y) {
    z = Constant <value = int8 {0}> ()
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
}
"""


CONCAT = """g (float[1,4,8,8] x, float[1,4,8,8] t) => (float[1,4,8,8] y, float[1,4,8,8] v) {
    a = Relu (x) y = t.conv4 (a, s1) c = Concat <axis = 1> (a, t) v = t.conv8 (c, s2) }"""
"""A Concat whose inputs and output have different scales."""
UNSIGNED = """g (float[1,4,8,8] x) => (float[1,4,8,8] y)
    <float s = {0.1}, uint8 z = {0}, int8[4,4,1,1] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float t = {0.1},
     int8 u = {0}> {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
        k = DequantizeLinear (w, t, u)
        y = Conv (d, k) }"""
"""UINT8 activations times INT8 weights: once the activations are INT8, the operands have one type."""


def convolution(channels: int, out: int = 4) -> str:
    """A function `convN (x, s)`: an INT8 1x1 convolution of N channels whose input is quantized with scale s."""
    weights = np.random.default_rng(channels).integers(-100, 100, channels * out)
    return f"""
<domain: "t", opset_import: ["" : 17]>
conv{channels} (x, s) => (y) {{
    z = Constant <value = int8 {{0}}> ()
    q = QuantizeLinear (x, s, z)
    d = DequantizeLinear (q, s, z)
    w = Constant <value = int8[{out},{channels},1,1] {{{", ".join(map(str, weights))}}}> ()
    sw = Constant <value = float[{out}] {{{", ".join(["0.01"] * out)}}}> ()
    zw = Constant <value = int8[{out}] {{{", ".join(["0"] * out)}}}> ()
    k = DequantizeLinear <axis = 0> (w, sw, zw)
    y = Conv (d, k)
}}
"""


def build(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model from the text of its graph; scales are named s1 = 0.1, s2 = 0.11, s3 = 0.12, s4 = 0.13, s5 = 0.14."""
    scales = ", ".join(f"float s{i} = {{{0.09 + 0.01 * i:.2f}}}" for i in range(1, 6))
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "t" : 1]>\n'
    found = re.fullmatch(r"\s*(g \(.*?\) => \(.*?\))\s*(?:<(.*?)>)?\s*\{(.*)", text, re.DOTALL)
    assert found, text
    signature, extra, body = found.groups()
    inits = f"<{scales}{', ' + extra if extra else ''}>"
    functions = "".join(convolution(n) for n in (2, 4, 8, 12, 16)) + FUNCTIONS
    functions = functions.replace('["" : 17]', f'["" : {opset}]')
    model = onnx.parser.parse_model(head + signature + inits + "{" + body + functions)
    model = onnx.inliner.inline_local_functions(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def fixed(model: onnx.ModelProto, **options: object) -> Result:
    """The repair, checked for what always holds: a valid model, an exact undo, nothing to do the second time."""
    before = model.SerializeToString()
    settings = Options(**options)  # type: ignore[arg-type]
    result = qdqgraph.fix(model, qdqgraph.rules(), settings)
    assert model.SerializeToString() == before, "fix changed its input"
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model).SerializeToString() == before
    again = qdqgraph.fix(result.model, qdqgraph.rules(), settings)
    assert not again.plan.edits, "a second run still changes something: " + again.plan.diff()
    return result


def scales(model: onnx.ModelProto) -> dict[str, set[float]]:
    """The scales at every quantized site."""
    found: dict[str, set[float]] = {}
    for pair in pairs(Graph(model)):
        if pair.tieable:
            found.setdefault(pair.site, set()).add(round(pair.value, 6))
    return found


def reads_pair(model: onnx.ModelProto, output: str, index: int) -> bool:
    """Whether an input of the node that makes `output` comes from a DequantizeLinear."""
    graph = Graph(model)
    node = graph.producer(output)
    return node is not None and pairs(graph).made(node.inputs[index].name) is not None
