"""QDQ406."""

from collections.abc import Iterator

import numpy as np

from qdqgraph import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Grid,
    Pair,
    Rule,
    Safety,
    Severity,
    constant,
    key,
    pairs,
    readers,
    replace,
)


class BiasQuantized(Rule):
    """A bias is quantized.

    Why: TensorRT keeps biases in high precision and has no INT32 DequantizeLinear: the parser refuses the graph.
    onnxruntime's quantize_static writes such biases unless told `QuantizeBias=False`. The float that a bias stands for
    takes its place; no number changes.
    Source: https://github.com/microsoft/onnxruntime/issues/14229, https://github.com/onnx/onnx-tensorrt/issues/850
    """

    code, name, safety = "QDQ406", "bias-quantized", Safety.EXACT
    severity = Severity.ERROR

    examples = [
        Example(
            "an INT32 bias",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, int32[1] b = {5}, float sb = {0.001}, int32 zb = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                bias = DequantizeLinear (b, sb, zb)
                y = Conv (d, k, bias)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float[1] bias = {0.0050000004}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k, bias)
            }""",
        ),
        Counterexample(
            "a float bias",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float[1] b = {0.5}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k, b)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if pair.kind == "bias" or (pair.kind == "weight" and _is_bias(graph, pair)):
                values = _values(graph, pair)
                edits = (
                    ()
                    if values is None
                    else [replace(graph, [d], [constant(key(d), values)]) for d in pair.dequantizes]
                )
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is a bias quantized to {pair.types[1].upper()}; TensorRT takes float biases",
                    help="store the float that it stands for",
                    edits=edits,
                )


def _is_bias(graph: Graph, pair: Pair) -> bool:
    """Whether the third input of Conv, ConvTranspose or Gemm, and nothing else, reads the pair."""
    found = readers(graph, pair)
    return bool(found) and all(r.index == 2 and r.node.op in ("Conv", "ConvTranspose", "Gemm") for r in found)


def _values(graph: Graph, pair: Pair) -> np.ndarray | None:
    array, grid = graph.array(pair.tensor), Grid.of(pair)
    if array is None or grid is None or not grid.fits(array) or not pair.agrees:
        return None
    return grid.reals(array if pair.quantize is None else grid.integers(array))
