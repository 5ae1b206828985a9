"""QDQ426."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Rule,
    Safety,
    SetPair,
    Severity,
    key,
    pairs,
)


class ScaleShape(Rule):
    """A scale has several dimensions.

    Why: a scale is one number, or one number for each channel in a vector; only scales of blocks have the dimensions of
    the tensor. Tools that multiply by NumPy's rules store the scales of weights as [C, 1, 1, 1]. TensorRT refuses such a
    file ("Only a single blocking dimension is allowed"), and ONNX Runtime does not run it. The repair stores the same
    numbers as a vector along the dimension that is not 1, or as a scalar.
    Source: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html, measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ426", "scale-shape", Safety.EXACT
    severity = Severity.ERROR

    examples = [
        Example(
            "the scales of weights in four dimensions",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2,1,1,1] sw = {0.01, 0.02}, int8[2,1,1,1] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Counterexample(
            "the scales of blocks have the dimensions of the weights",
            """
            <ir_version: 10, opset_import: ["" : 21]>
            g (float[1,4] x) => (float[1,2] y)
            <int8[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[2,2] sw = {0.01, 0.02, 0.03, 0.04}, int8[2,2] zw = {0, 0, 0, 0}>
            {
                k = DequantizeLinear <axis = 0, block_size = 2> (w, sw, zw)
                y = MatMul (x, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            scale = pair.scale
            if scale is None or scale.ndim < 2 or pair.blocked:
                continue
            if scale.size == 1 and pair.kind == "activation":
                continue  # QDQ404
            edit = _flat(graph, pair, scale)
            yield self.finding(
                pair.nodes[0],
                f"the scale of '{pair.tensor}' has the shape {list(scale.shape)}; it must be a scalar or a vector",
                help="quantize per tensor or along one axis"
                if edit is None
                else "store the same numbers as "
                + ("a scalar" if edit.axis is None else f"a vector along axis {edit.axis}"),
                edits=() if edit is None else [edit],
            )


def _flat(graph: Graph, pair: Pair, scale: np.ndarray) -> SetPair | None:
    """Returns the pair with the same scales in one dimension; None if they vary along several, or fit none.

    As in NumPy, the last dimension of the scale belongs to the last one of the tensor.
    """
    zero_point, shape = pair.zero_point, graph.shape(pair.tensor)
    if zero_point is None or zero_point.size not in (1, scale.size) or not pair.agrees:
        return None
    nodes, long = tuple(key(n) for n in pair.nodes), [i for i, d in enumerate(scale.shape) if d != 1]
    if not long and zero_point.size == 1:
        return SetPair(nodes, Constant.of(scale.reshape(())), Constant.of(zero_point.reshape(())))
    if len(long) != 1 or shape is None or scale.ndim > len(shape):
        return None
    axis = len(shape) - scale.ndim + long[0]
    zeros = np.broadcast_to(zero_point.reshape(-1), (scale.size,))
    fits = shape[axis] in (scale.size, None)
    return SetPair(nodes, Constant.of(scale.reshape(-1)), Constant.of(zeros), axis) if fits else None
