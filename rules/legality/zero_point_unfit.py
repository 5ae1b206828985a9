"""QDQ424."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from qdqgraph.rulekit import (
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    Pair,
    Rule,
    Safety,
    SetPair,
    Severity,
    input_name,
    key,
    label,
    numpy_type,
    pairs,
    read_type,
)

DOUBLE = 11
"""`onnx.TensorProto` data type."""
INT8 = np.dtype(np.int8)
QUANTIZED = frozenset({2, 3, 4, 5, 17, 18, 19, 20, 21, 22, 23})
"""`onnx.TensorProto` data types that a QuantizeLinear produces: integers of 16, 8 and 4 bits, FP8 and FP4."""

Fault = tuple[str, str, np.ndarray | None, np.ndarray]
"""Message, help, and the parameters that repair it: scale (None if nothing does) and zero-point."""


class ZeroPointUnfit(Rule):
    """A zero-point has another type than the integers or another size than the scale, or the scale is FP64.

    Why: in every opset the zero-point has the type of the integers; onnx.checker and ONNX Runtime reject other models,
    and FP64 scales. TensorRT requires as many zero-points as scales. The repair keeps every value: the zero-point gets
    the type of the integers, and one value for each scale. An FP64 scale becomes FP32, which TensorRT computes with.
    Source: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html, measured on TensorRT-RTX 1.7.1 ("The scale and
    zero point must have the same volume")
    """

    code, name, safety = "QDQ424", "zero-point-unfit", Safety.EXACT
    severity = Severity.ERROR

    examples = [
        Example(
            "one zero-point for two scales",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, z)
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
        Example(
            "two zero-points for one scale",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float sw = {0.01}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float sw = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k)
            }""",
        ),
        Counterexample(
            "a zero-point of shape [1] and a scale without dimensions",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4] x) => (float[1,4] y)
            <float s = {0.1}, int8[1] z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            faults = (_scale_type(graph, pair), _type(graph, pair), _size(graph, pair))
            found = next((fault for fault in faults if fault is not None), None)
            if found is not None:
                message, help, scale, zero_point = found
                fits = scale is not None and scale.ndim < 2 and _agree(graph, pair) and not pair.blocked
                edits = [_parameters(pair, scale, zero_point)] if scale is not None and fits else []
                yield self.finding(pair.nodes[0], message, help=help, edits=edits)


def _agree(graph: Graph, pair: Pair) -> bool:
    """Returns whether the nodes of the pair have one scale and zero-point, of whatever types."""
    if pair.agrees or len({node.attrs.get("axis", 1) for node in pair.nodes}) > 1:
        return pair.agrees
    for index in (1, 2):
        values = [graph.value(input_name(node, index)) for node in pair.nodes]
        numbers = [None if value is None else value.astype(np.float64).reshape(-1) for value in values]
        if any(n is None or numbers[0] is None or not np.array_equal(n, numbers[0]) for n in numbers):
            return False
    return True


def _parameters(pair: Pair, scale: np.ndarray, zero_point: np.ndarray) -> SetPair:
    """Returns the pair with these parameters, with one zero-point for every scale."""
    values = zero_point.reshape(-1) if scale.ndim else zero_point.reshape(-1)[0]
    fitted = np.array(np.broadcast_to(values, scale.shape), zero_point.dtype)
    axis = pair.axis if scale.size > 1 else None
    return SetPair(tuple(key(n) for n in pair.nodes), Constant.of(scale), Constant.of(fitted), axis)


def _scale_type(graph: Graph, pair: Pair) -> Fault | None:
    """Returns the fault of a scale in FP64."""
    kinds = {read_type(graph, node, 1) for node in pair.nodes}
    if DOUBLE not in kinds:
        return None
    scale = pair.scale.astype(np.float32) if pair.scale is not None and len(kinds) == 1 else None
    zero_point = np.zeros((), np.int8) if pair.zero_point is None else pair.zero_point
    return f"the scale of '{pair.tensor}' is FP64", "store it as FP32", scale, zero_point


def _type(graph: Graph, pair: Pair) -> Fault | None:
    """Returns the fault of a zero-point that has not the type of the integers."""
    for node in pair.nodes:
        zero_point, wanted = graph.value(input_name(node, 2)), _integers(graph, pair, node)
        if zero_point is None or wanted is None or zero_point.dtype == wanted:
            continue
        fits = np.array_equal(zero_point.astype(np.float64), zero_point.astype(wanted).astype(np.float64))
        own, needed = (str(dtype).upper() for dtype in (zero_point.dtype, wanted))
        message = f"the zero-point of {label(node)} is {own}, and its integers are {needed}"
        help = f"store it as {needed}" if fits else "quantize the model again"
        return message, help, pair.scale if fits else None, zero_point.astype(wanted)
    return None


def _integers(graph: Graph, pair: Pair, node: Node) -> np.dtype[Any] | None:
    """Returns the type that the zero-point of a node must have; None if it is unknown or any will do.

    A QuantizeLinear produces the type of its zero-point; if nothing can be quantized to that type, INT8 is meant, as
    TensorRT reads it.
    """
    kind = graph.dtype(input_name(pair.quantize or node, 2 if pair.quantize is not None else 0))
    if pair.quantize is not None and kind is not None and kind not in QUANTIZED:
        return INT8
    return None if kind is None or node is pair.quantize else numpy_type(kind)


def _size(graph: Graph, pair: Pair) -> Fault | None:
    """Returns the fault of zero-points of another number than the scales."""
    scale, zero_point = pair.scale, pair.zero_point
    if scale is None or zero_point is None or not any(input_name(node, 2) for node in pair.nodes):
        return None
    if zero_point.size == scale.size:
        return None
    message = f"'{pair.tensor}' has {zero_point.size} zero-points and {scale.size} scales"
    if (zero_point == zero_point.reshape(-1)[0]).all():
        return message, "store one zero-point for every scale", scale, zero_point.reshape(-1)[:1]
    if scale.size > 1:
        return message, "quantize the model again", None, zero_point
    spread = np.full(zero_point.shape, scale.reshape(-1)[0], scale.dtype)
    return message, "store one scale for every zero-point", spread, zero_point
