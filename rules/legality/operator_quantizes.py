"""QDQ416."""

from collections.abc import Iterator
from typing import Any

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
    make_dequantize,
    make_node,
    replace,
)


class OperatorQuantizes(Rule):
    """An onnxruntime operator quantizes internally: a matrix product or an LSTM.

    Why: TensorRT has none of these operators. onnxruntime's quantize_dynamic writes DynamicQuantizeLSTM; its graph
    optimizer fuses MatMulInteger with adjacent operators. A matrix product keeps its quantized weights, with a
    DequantizeLinear, and reads float values; if the scale of its input is constant, the input keeps its pair. The file
    does not contain the scale of a dynamically quantized input, so the repair removes that quantization, from both
    operands if neither is a weight. TensorRT has no INT8 LSTM: its weights are stored as dequantized floats.
    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md,
    https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md
    """

    code, name, safety = "QDQ416", "operator-quantizes", Safety.LOSSY
    severity = Severity.ERROR
    quantized = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM")

    examples = [
        Example(
            "a matrix product that quantizes its input dynamically",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {64, 32, 16, 8}, float sw = {0.01}, int8 zw = {0}, float[2] b = {1, 2}>
            {
                y = com.microsoft.DynamicQuantizeMatMul (x, w, sw, zw, b)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {64, 32, 16, 8}, float sw = {0.01}, int8 zw = {0}, float[2] b = {1, 2}>
            {
                k = DequantizeLinear (w, sw, zw)
                p = MatMul (x, k)
                y = Add (p, b)
            }""",
        ),
        Example(
            "an input with a constant scale, and weights with one scale per column",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,2] x) => (float[1,2] y)
            <float s = {0.125}, int8 z = {0}, int8[2,2] w = {64, 32, 16, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                y = com.microsoft.MatMulIntegerToFloat (q, w, s, sw, z, zw)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,2] x) => (float[1,2] y)
            <float s = {0.125}, int8 z = {0}, int8[2,2] w = {64, 32, 16, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 1> (w, sw, zw)
                y = MatMul (d, k)
            }""",
        ),
        Counterexample(
            "weights with a DequantizeLinear",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {64, 32, 16, 8}, int8 zw = {0}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, zw)
                y = MatMul (x, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in self.quantized_nodes(graph):
            edit = _lstm(graph, node) if node.op == "DynamicQuantizeLSTM" else _product(graph, node)
            yield self.finding(
                node,
                f"TensorRT has no {node.op} of domain {node.domain}",
                help="export the model with constant weights and scales"
                if edit is None
                else "replace it by standard operators on dequantized values",
                edits=() if edit is None else [edit],
            )


def _product(graph: Graph, node: Node) -> Graft | None:
    """Returns a MatMul of float values, followed by an Add of the bias if there is one."""
    dynamic = node.op == "DynamicQuantizeMatMul"
    scale, zero, bias = (input_name(node, i) for i in ((2, 3, 4) if dynamic else (3, 5, 6)))
    weights, array = _quantization(graph, scale, zero, input_name(node, 1)), graph.array(input_name(node, 1))
    left = (input_name(node, 0), []) if dynamic else _operand(graph, node)
    right = _dynamic_input(graph, input_name(node, 1), scale, zero)
    if left is None or (right is None and (weights is None or array is None)):
        return None
    name, stored = key(node), list[Any]()
    product = f"{name}_product" if bias else name
    if right is None and weights is not None and array is not None:
        right = f"{name}_weights"
        stored = make_dequantize(right, input_name(node, 1), weights.scale, weights.zero_point, array.ndim - 1)
    nodes = [*left[1], *stored, make_node("MatMul", [left[0], str(right)], product)]
    return replace([node], [*nodes, make_node("Add", [product, bias], name)] if bias else nodes)


def _operand(graph: Graph, node: Node) -> tuple[str, list[Any]] | None:
    """Returns the dequantized operand and the nodes that produce it; None if its scale is not constant."""
    integers, scale, zero = input_name(node, 0), input_name(node, 2), input_name(node, 4)
    if source := _dynamic_input(graph, integers, scale, zero):
        return source, []
    quantization = _quantization(graph, scale, zero, integers)
    if quantization is None or quantization.scale.size > 1:
        return None
    real = f"{key(node)}_input"
    return real, [make_node("DequantizeLinear", [integers, scale, zero], real)]


def _dynamic_input(graph: Graph, integers: str, scale: str, zero: str) -> str | None:
    """Returns the tensor that a DynamicQuantizeLinear quantized to these integers; None if it has another producer."""
    source = graph.producer(integers)
    own = [] if source is None else [t.name for t in source.outputs]
    dynamic = source is not None and source.op == "DynamicQuantizeLinear" and own == [integers, scale, zero]
    return input_name(source, 0) if dynamic else None


def _lstm(graph: Graph, node: Node) -> Graft | None:
    """Returns an LSTM with dequantized weights in the ONNX layout; DynamicQuantizeLSTM stores them transposed."""
    name, inputs = key(node), [input_name(node, i) for i in range(8)]
    nodes = []
    for index, scale, zero in ((1, 8, 9), (2, 10, 11)):
        array = graph.array(inputs[index])
        quantization = _quantization(graph, input_name(node, scale), input_name(node, zero), inputs[index])
        if array is None or array.ndim != 3 or quantization is None:
            return None
        shape = (array.shape[0], 1, -1)  # one scale per direction, or one per column of each
        scales, zeros = (
            a.reshape(shape if a.size > 1 else (1, 1, 1)) for a in (quantization.scale, quantization.zero_point)
        )
        reals = (array.astype(np.float32) - zeros.astype(np.float32)) * scales
        inputs[index] = f"{name}_{'WR'[index - 1]}"
        nodes.append(make_constant(inputs[index], np.ascontiguousarray(reals.transpose(0, 2, 1)).astype(np.float32)))
    made = [t.name for t in node.outputs]
    return replace([node], [*nodes, make_node("LSTM", inputs, made, attributes(graph, node))])


def _quantization(graph: Graph, scale: str, zero: str, integers: str) -> Quantization | None:
    """Returns scale and zero-point, zero if absent; None if they are not constant."""
    scales, zeros = graph.value(scale), graph.value(zero) if zero else None
    if zeros is None and not zero:
        array = graph.array(integers)
        zeros = np.zeros((), np.uint8 if array is None else array.dtype)
    return None if scales is None or zeros is None else Quantization(scales, zeros)
