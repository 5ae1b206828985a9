"""QDQ410."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Quantization,
    Rule,
    Safety,
    Severity,
    attributes,
    input_name,
    key,
    make_constant,
    make_node,
    replace,
)


@dataclass(frozen=True)
class Form:
    """How a QLinear operator is written in Q/DQ format.

    Attributes:
        op: the operator on float values.
        operands: input indices at which each (integers, scale, zero-point) starts.
        result: input index at which (scale, zero-point) of the output start.
        bias: input index of an INT32 bias, whose scale is the product of the operand scales; -1 if there is none.
        images: whether its first operand and its output can be channels-last images (`channels_last`).
    """

    op: str
    operands: tuple[int, ...]
    result: int
    bias: int = -1
    images: bool = False


FORMS = {
    "QLinearConv": Form("Conv", (0, 3), 6, bias=8, images=True),
    "QLinearMatMul": Form("MatMul", (0, 3), 6),
    "QGemm": Form("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": Form("Add", (0, 3), 6),
    "QLinearMul": Form("Mul", (0, 3), 6),
    "QLinearSigmoid": Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": Form("LeakyRelu", (0,), 3),
    "QLinearAveragePool": Form("AveragePool", (0,), 3, images=True),
    "QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,), 3, images=True),
    "QLinearReduceMean": Form("ReduceMean", (0,), 3),
    "QLinearSoftmax": Form("Softmax", (0,), 3),
    "QLinearWhere": Form("Where", (1, 4), 7),
    "QLinearConcat": Form("Concat", (), 0),
}


class OperatorQlinear(Rule):
    """An operator computes on quantized integers, in QOperator format.

    Why: TensorRT supports explicit Q/DQ only, and has no QLinear operators. The same network in Q/DQ format computes on
    the dequantized values; single values can differ by one quantization step. If onnxruntime's optimizer converted the
    operator to channels-last, the repair adds Transposes before and after it, which do not change values.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md,
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    code, name, safety = "QDQ410", "operator-qlinear", Safety.LOSSY
    severity = Severity.ERROR
    quantized = ("QLinear*", "QGemm")

    examples = [
        Example(
            "QLinearConv with a bias",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.0625}, int32[1] b = {128}>
            {
                q = QuantizeLinear (x, s, z)
                c = QLinearConv (q, s, z, w, sw, z, s, z, b)
                y = DequantizeLinear (c, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.0625}, float[1] bias = {1}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                r = Conv (d, k, bias)
                c = QuantizeLinear (r, s, z)
                y = DequantizeLinear (c, s, z)
            }""",
        ),
        Example(
            "onnxruntime's QLinearConcat",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.125}, float t = {0.25}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                p = QuantizeLinear (x, t, z)
                c = com.microsoft.QLinearConcat <axis = 1> (t, z, q, s, z, p, t, z)
                y = DequantizeLinear (c, t, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.125}, float t = {0.25}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                p = QuantizeLinear (x, t, z)
                d = DequantizeLinear (q, s, z)
                e = DequantizeLinear (p, t, z)
                r = Concat <axis = 1> (d, e)
                c = QuantizeLinear (r, t, z)
                y = DequantizeLinear (c, t, z)
            }""",
        ),
        Counterexample(
            "a standard Q/DQ pair",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in self.quantized_nodes(graph):
            obstacle = _obstacle(graph, node)
            yield self.finding(
                node,
                f"TensorRT has no {node.op}",
                help=f"export the model with Q/DQ pairs: {obstacle}" if obstacle else "rewrite it in Q/DQ format",
                edits=() if obstacle else [_in_pairs(graph, node, FORMS[node.op])],
            )


def _obstacle(graph: Graph, node: Node) -> str:
    """Returns why the operator cannot be rewritten in Q/DQ format; empty if it can."""
    if _is_channels_last(node) and _rank(graph, node) < 3:
        return "it is channels-last, and the rank of its images is unknown"
    form = FORMS.get(node.op)
    if form is None:
        return "this operator has no equivalent with Q/DQ pairs"
    if node.op == "QLinearSoftmax" and _softmax_axis(graph, node) is None:
        return "its Softmax runs over several axes, as in opsets before 13"
    for place, start in enumerate(form.operands):
        scale = graph.value(input_name(node, start + 1))
        if scale is None or scale.size == 1:
            continue
        shape = graph.shape(input_name(node, start))
        if (form.op == "MatMul" and (shape is None or len(shape) != 2)) or (place == 0 and form.op != "MatMul"):
            return "its per-channel scales run along an axis that Q/DQ pairs cannot express"
    if form.bias >= 0 and input_name(node, form.bias) and _bias(graph, node, form) is None:
        return "its bias or its scales are not constant"
    return ""


def _in_pairs(graph: Graph, node: Node, form: Form) -> Graft:
    starts = form.operands or tuple(range(2, len(node.inputs), 3))
    result = input_name(node, form.result)
    real = f"{key(node)}_real" if result else key(node)
    nodes, inputs = [], [input_name(node, i) for i in range(starts[0])] if form.operands else []
    for place, start in enumerate(starts):
        integers, scale, zero_point = (input_name(node, start + i) for i in range(3))
        name = f"{key(node)}_operand{place}"
        value = graph.value(scale)
        rows = form.op == "MatMul" and place == 0
        axis = (0 if rows else _channels(node, form)) if value is not None and value.size > 1 else None
        nodes.append(make_node("DequantizeLinear", [integers, scale, zero_point], name, axis=axis))
        inputs.append(name)
    bias = _bias(graph, node, form)
    if bias is not None:
        nodes.append(make_constant(f"{key(node)}_bias", bias))
        inputs.append(f"{key(node)}_bias")
    softmax = node.op == "QLinearSoftmax"
    listed = node.op == "QLinearReduceMean" and graph.opset >= 18 and bool(node.attrs.get("axes"))
    if listed:  # an attribute before opset 18, an input since
        nodes.append(make_constant(f"{key(node)}_axes", np.asarray(node.attrs["axes"], np.int64)))
        inputs.append(f"{key(node)}_axes")
    leave = ["opset", "channels_last", *(["axis"] if softmax else []), *(["axes"] if listed else [])]
    last = form.images and _is_channels_last(node)
    if last:
        nodes.append(make_node("Transpose", [inputs[0]], f"{inputs[0]}_nchw", perm=_order(_rank(graph, node), "first")))
        inputs[0] += "_nchw"
    made = f"{key(node)}_nchw" if last else real
    axis = _softmax_axis(graph, node) if softmax else None
    nodes.append(make_node(form.op, inputs, made, attributes(graph, node, *leave), axis=axis))
    if last:
        nodes.append(make_node("Transpose", [made], real, perm=_order(_rank(graph, node), "last")))
    if result:
        nodes.append(make_node("QuantizeLinear", [real, result, input_name(node, form.result + 1)], key(node)))
    return replace([node], nodes)


def _is_channels_last(node: Node) -> bool:
    """Returns whether the images are channels-last."""
    return bool(node.attrs.get("channels_last", 0))


def _rank(graph: Graph, node: Node) -> int:
    """Returns the rank of the images that a node reads; 0 if unknown."""
    kernel = node.attrs.get("kernel_shape")
    weights = graph.array(input_name(node, 3)) if node.op == "QLinearConv" else None
    shape = graph.shape(input_name(node, 0)) or graph.shape(key(node)) or ()
    return len(kernel) + 2 if kernel else weights.ndim if weights is not None else len(shape)


def _order(rank: int, channels: Literal["first", "last"]) -> list[int]:
    """Returns the permutation of a Transpose to channels-first (N, C, ...) or channels-last (N, ..., C)."""
    return [0, rank - 1, *range(1, rank - 1)] if channels == "first" else [0, *range(2, rank), 1]


def _softmax_axis(graph: Graph, node: Node) -> int | None:
    """Returns the axis of a QLinearSoftmax; None if it flattens trailing axes, unlike Softmax since opset 13."""
    shape = graph.shape(input_name(node, 0)) or graph.shape(key(node))
    axis, since = int(node.attrs.get("axis", -1)), int(node.attrs.get("opset", 13))
    last = axis == -1 or (shape is not None and axis == len(shape) - 1)
    if last:
        return -1 if shape is None else len(shape) - 1
    return axis if (since >= 13) == (graph.opset >= 13) else None


def _channels(node: Node, form: Form) -> int:
    """Returns the axis of per-channel weight scales."""
    if form.op == "Conv":
        return 0
    return 0 if form.op == "Gemm" and node.attrs.get("transB", 0) else 1


def _bias(graph: Graph, node: Node, form: Form) -> np.ndarray | None:
    """Returns the float values of an INT32 bias: integer · input scale · weight scale · alpha; None if not constant."""
    if form.bias < 0 or not input_name(node, form.bias):
        return None
    integers = graph.array(input_name(node, form.bias))
    scales = [graph.value(input_name(node, start + 1)) for start in form.operands]
    if integers is None or any(s is None for s in scales):
        return None
    scale = np.prod(np.broadcast_arrays(*[np.asarray(s).reshape(-1) for s in scales]), axis=0)
    scale = (scale * float(node.attrs.get("alpha", 1.0))).astype(np.float32)
    quantization = Quantization(scale, np.zeros((), np.int32), integers.ndim - 1)
    return quantization.dequantize(integers)
