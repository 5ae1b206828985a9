"""QDQ417."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    Rule,
    Safety,
    Severity,
    attributes,
    key,
    make_constant,
    make_node,
    replace,
)

Replacement = list[Any] | None
"""Standard nodes with the same output as the fused one; None if it cannot be expressed."""
PLAIN = ("Relu", "Sigmoid", "Tanh")
"""Activations without parameters in FusedConv and FusedGemm."""
DEFAULTS = {"LeakyRelu": (0.01, 0.0), "HardSigmoid": (0.2, 0.5), "Clip": (-3.4e38, 3.4e38)}
"""Activations with parameters, and their defaults."""
FLOAT16 = 10
"""`onnx.TensorProto.FLOAT16`."""


class OperatorFused(Rule):
    """TensorRT has no equivalent of an operator that onnxruntime's graph optimizer fused.

    Why: A model optimized and saved by onnxruntime contains operators of its domain com.microsoft: a convolution with
    its activation, a matrix product with its factor, GELU with its bias, LayerNormalization with the upstream Add.
    TensorRT looks for plugins of these names, finds none, and refuses the file. The repair replaces each by the
    operators it was fused from; the last bits may differ. An operator that cannot be replaced is reported.
    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ417", "operator-fused", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "a convolution fused with its Relu",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.5}, int8 z = {0}, float[1,1,1,1] w = {2}, float[1] b = {-1}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = com.microsoft.FusedConv <activation = "Relu"> (d, w, b)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.5}, int8 z = {0}, float[1,1,1,1] w = {2}, float[1] b = {-1}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, w, b)
                y = Relu (c)
            }""",
        ),
        Example(
            "a LayerNormalization fused with the upstream Add",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,2,4] x, float[1,2,4] r) => (float[1,2,4] y)
            <float s = {0.5}, int8 z = {0}, float[4] w = {1, 2, 3, 4}, float[4] b = {0, 0, 1, 1}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = com.microsoft.SkipLayerNormalization <epsilon = 0.001> (d, r, w, b)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,2,4] x, float[1,2,4] r) => (float[1,2,4] y)
            <float s = {0.5}, int8 z = {0}, float[4] w = {1, 2, 3, 4}, float[4] b = {0, 0, 1, 1}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                a = Add (d, r)
                y = LayerNormalization <epsilon = 0.001> (a, w, b)
            }""",
        ),
        Example(
            "a Softmax fused with its bias: reported only",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,2,4] x, float[1,2,4] m) => (float[1,2,4] y)
            <float s = {0.5}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = com.microsoft.BiasSoftmax <axis = 2, is_inner_broadcast = 0> (d, m)
            }""",
        ),
        Counterexample(
            "operators of the standard domain",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.5}, int8 z = {0}, float[1,1,1,1] w = {2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, w)
                y = Relu (c)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes():
            if node.domain != "com.microsoft" or node.op not in (*REPLACEMENTS, *REFUSED):
                continue
            made = REPLACEMENTS[node.op](graph, node) if node.op in REPLACEMENTS else None
            yield self.finding(
                node,
                f"TensorRT has no {node.op} of domain {node.domain}",
                help="replace it by standard ONNX operators"
                if made
                else "quantize or export the model before this operator is fused",
                edits=[replace([node], made)] if made else (),
            )


def _inputs(node: Node, count: int) -> list[str]:
    """Returns the names of the first `count` inputs; "" for an absent one."""
    names = [str(t.name) for t in node.inputs]
    return [*names, *("",) * count][:count]


def _activated(graph: Graph, node: Node, op: str, leave: tuple[str, ...]) -> Replacement:
    """Returns a weighted operator, the optional Add fused with it, and its activation."""
    function, name = str(node.attrs.get("activation", "")), key(node)
    x, w, b, z = _inputs(node, 4)
    alpha, beta = (
        float(v) for v in [*_parameters(node), *DEFAULTS.get(function, (0.0, 0.0))[len(_parameters(node)) :]]
    )
    if function not in (*PLAIN, *DEFAULTS, "") or (z and op != "Conv"):
        return None
    steps = [f"{name}_weighted", *([f"{name}_sum"] if z else []), *([f"{name}_active"] if function else [])]
    steps[-1] = name
    nodes = [make_node(op, [x, w, b], steps[0], attributes(graph, node, "activation", "activation_params", *leave))]
    if z:
        nodes.append(make_node("Add", [steps[0], z], steps[1]))
    if function in PLAIN:
        nodes.append(make_node(function, [steps[-2]], name))
    elif function == "LeakyRelu":
        slope = f"{name}_slope"
        nodes += [_number(graph, node, slope, alpha), make_node("PRelu", [steps[-2], slope], name)]
    elif function:
        source, low, high = steps[-2], f"{name}_low", f"{name}_high"
        if function == "HardSigmoid":
            moved = f"{name}_moved"
            nodes += [
                *_times(graph, node, source, alpha, f"{name}_scaled"),
                _number(graph, node, f"{name}_shift", beta),
            ]
            nodes.append(make_node("Add", [f"{name}_scaled", f"{name}_shift"], moved))
            source, alpha, beta = moved, 0.0, 1.0
        nodes += [_number(graph, node, low, alpha), _number(graph, node, high, beta)]
        nodes.append(make_node("Clip", [source, low, high], name))
    return nodes


def _parameters(node: Node) -> list[float]:
    """Returns the parameters of a node's activation that its attributes give, at most two."""
    named = (np.ravel(node.attrs[n]) for n in ("activation_alpha", "activation_beta") if n in node.attrs)
    return [*node.attrs.get("activation_params", itertools.chain(*named))][:2]


def _conv(graph: Graph, node: Node) -> Replacement:
    return _activated(graph, node, "Conv", ())


def _gemm(graph: Graph, node: Node) -> Replacement:
    return _activated(
        graph, node, "Gemm", ("activation_alpha", "activation_beta", "activation_gamma", "activation_axis")
    )


def _matmul(graph: Graph, node: Node) -> Replacement:
    """Returns a matrix product with a factor and optionally transposed operands."""
    name, operands, nodes = key(node), _inputs(node, 2), list[Any]()
    if any(node.attrs.get(a) for a in ("transBatchA", "transBatchB")):
        return None
    for index, letter in enumerate("AB"):
        shape = graph.shape(operands[index])
        if node.attrs.get(f"trans{letter}"):
            if shape is None or len(shape) < 2:
                return None
            last = len(shape) - 1
            turned = f"{name}_{letter.lower()}"
            nodes.append(make_node("Transpose", [operands[index]], turned, perm=[*range(last - 1), last, last - 1]))
            operands[index] = turned
    factor = float(node.attrs.get("alpha", 1.0))
    nodes.append(make_node("MatMul", operands, name if factor == 1 else f"{name}_product"))
    return nodes if factor == 1 else [*nodes, *_times(graph, node, f"{name}_product", factor, name)]


def _times(graph: Graph, node: Node, tensor: str, factor: float, result: str) -> list[Any]:
    return [_number(graph, node, f"{result}_factor", factor), make_node("Mul", [tensor, f"{result}_factor"], result)]


def _number(graph: Graph, node: Node, name: str, value: float) -> Any:
    """Returns a scalar constant, FP16 if the first input of the node is, else FP32."""
    half = graph.dtype(node.inputs[0].name) == FLOAT16
    return make_constant(name, np.asarray(value, np.float16 if half else np.float32))


def _summed(node: Node) -> tuple[list[Any], str]:
    """Returns the Add of a node's first input and its bias, and its output; no node if there is no bias."""
    x, bias = _inputs(node, 2)
    added = f"{key(node)}_biased"
    return ([make_node("Add", [x, bias], added)], added) if bias else ([], x)


def _gelu(graph: Graph, node: Node) -> Replacement:
    """Returns x · (1 + erf(x / √2)) / 2."""
    (nodes, x), name = _summed(node), key(node)
    scaled, error, one, twice = (f"{name}_{part}" for part in ("scaled", "erf", "one", "twice"))
    return [
        *nodes,
        *_times(graph, node, x, math.sqrt(0.5), scaled),
        make_node("Erf", [scaled], error),
        _number(graph, node, f"{one}_value", 1.0),
        make_node("Add", [error, f"{one}_value"], one),
        make_node("Mul", [x, one], twice),
        *_times(graph, node, twice, 0.5, name),
    ]


def _fast_gelu(graph: Graph, node: Node) -> Replacement:
    """Returns x · (1 + tanh(√(2 / π) · (x + 0.044715 x³))) / 2."""
    (nodes, x), name = _summed(node), key(node)
    parts = ("square", "cube", "small", "inner", "scaled", "tanh", "one", "twice")
    square, cube, small, inner, scaled, tanh, one, twice = (f"{name}_{part}" for part in parts)
    return [
        *nodes,
        make_node("Mul", [x, x], square),
        make_node("Mul", [square, x], cube),
        *_times(graph, node, cube, 0.044715, small),
        make_node("Add", [x, small], inner),
        *_times(graph, node, inner, math.sqrt(2 / math.pi), scaled),
        make_node("Tanh", [scaled], tanh),
        _number(graph, node, f"{one}_value", 1.0),
        make_node("Add", [tanh, f"{one}_value"], one),
        make_node("Mul", [x, one], twice),
        *_times(graph, node, twice, 0.5, name),
    ]


def _quick_gelu(graph: Graph, node: Node) -> Replacement:
    """Returns x · sigmoid(α x)."""
    x, name = _inputs(node, 1)[0], key(node)
    scaled, gate = f"{name}_scaled", f"{name}_gate"
    return [
        *_times(graph, node, x, float(node.attrs.get("alpha", 1.702)), scaled),
        make_node("Sigmoid", [scaled], gate),
        make_node("Mul", [x, gate], name),
    ]


def _skip_norm(graph: Graph, node: Node) -> Replacement:
    """Returns Add and LayerNormalization; the sum may be the fourth output of the node."""
    x, skip, gamma, beta, bias = _inputs(node, 5)
    outputs: list[Any] = [t.name for t in node.outputs]
    if graph.opset < 17 or any(outputs[1:3]):
        return None
    total = outputs[3] if len(outputs) > 3 and outputs[3] else f"{key(node)}_sum"
    first = f"{key(node)}_skipped" if bias else total
    nodes = [make_node("Add", [x, skip], first)]
    if bias:
        nodes.append(make_node("Add", [first, bias], total))
    return [*nodes, make_node("LayerNormalization", [total, gamma, beta], key(node), attributes(graph, node))]


REPLACEMENTS: dict[str, Callable[[Graph, Node], Replacement]] = {
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
    "TransposeMatMul": _matmul,
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_norm,
}
"""The standard ONNX nodes for each fused operator."""
REFUSED = frozenset(
    {"BiasSoftmax", "EmbedLayerNormalization", "GroupNorm", "SkipGroupNorm", "BiasAdd", "NhwcConv", "MoE"}
)
"""Operators that the parser does not support and that this rule cannot replace."""
