"""QDQ303."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    PER_CHANNEL,
    VIEWS,
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
    channel_axis,
    key,
    pairs,
)


class WeightsPerTensor(Rule):
    """The weights of an INT8 convolution, or of matrix products that read one tensor, have a per-tensor scale.

    Why: With a per-tensor scale, TensorRT-RTX fuses downstream operators into the convolution itself: a residual Add
    then reads its skip as float although it has a pair, and an activation reads the convolution output twice. With
    per-channel scales both fuse into the epilogue, which reads INT8. Matrix products that read one tensor become one
    product, as query, key and value of an attention; if their weights have different per-tensor scales, a kernel of its
    own scales its output and adds the biases. Repeating the scale for every output channel changes no value; NVIDIA
    recommends per-channel scales for weights.
    When not: Matrix products most of which have no bias: TensorRT-RTX applies a per-tensor scale there in the consumer.
    Source: docs/tensorrt.md, measured on TensorRT-RTX 1.7.1; placement recommendation 7 in
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ303", "weights-per-tensor", Safety.EXACT

    examples = [
        Example(
            "one scale, repeated for two channels",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,2,4,4] x) => (float[1,2,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8}, float sw = {0.01}>
                {
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    k = DequantizeLinear (w, sw, z)
                    y = Conv (d, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,2,4,4] x) => (float[1,2,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8},
                 float[2] sw = {0.01, 0.01}, int8[2] zw = {0, 0}>
                {
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    k = DequantizeLinear <axis = 0> (w, sw, zw)
                    y = Conv (d, k)
                }""",
        ),
        Example(
            "two matrix products with biases that read one tensor",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[2,2] x) => (float[2,2] y, float[2,2] v)
                <float s = {0.1}, int8 z = {0}, int8[2,2] w1 = {64, 32, 16, 8}, float s1 = {0.01},
                 int8[2,2] w2 = {8, 16, 32, 64}, float s2 = {0.02}, float[2] b1 = {1, 2}, float[2] b2 = {3, 4}>
                {
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    k1 = DequantizeLinear (w1, s1, z)
                    m = MatMul (d, k1)
                    y = Add (m, b1)
                    k2 = DequantizeLinear (w2, s2, z)
                    v = Gemm <transB = 1> (d, k2, b2)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[2,2] x) => (float[2,2] y, float[2,2] v)
                <float s = {0.1}, int8 z = {0}, int8[2,2] w1 = {64, 32, 16, 8}, float[2] s1 = {0.01, 0.01},
                 int8[2,2] w2 = {8, 16, 32, 64}, float[2] s2 = {0.02, 0.02}, int8[2] zw = {0, 0},
                 float[2] b1 = {1, 2}, float[2] b2 = {3, 4}>
                {
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    k1 = DequantizeLinear <axis = 1> (w1, s1, zw)
                    m = MatMul (d, k1)
                    y = Add (m, b1)
                    k2 = DequantizeLinear <axis = 0> (w2, s2, zw)
                    v = Gemm <transB = 1> (d, k2, b2)
                }""",
        ),
        Counterexample(
            "matrix products without a bias",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[2,2] x) => (float[2,2] y, float[2,2] v)
            <float s = {0.1}, int8 z = {0}, int8[2,2] w1 = {64, 32, 16, 8}, float s1 = {0.01},
             int8[2,2] w2 = {8, 16, 32, 64}, float s2 = {0.02}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k1 = DequantizeLinear (w1, s1, z)
                y = MatMul (d, k1)
                k2 = DequantizeLinear (w2, s2, z)
                v = MatMul (d, k2)
            }""",
        ),
        Counterexample(
            "matrix products whose weights have the same scale",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[2,2] x) => (float[2,2] y, float[2,2] v)
            <float s = {0.1}, int8 z = {0}, int8[2,2] w1 = {64, 32, 16, 8}, float s1 = {0.01},
             int8[2,2] w2 = {8, 16, 32, 64}, float[2] b1 = {1, 2}, float[2] b2 = {3, 4}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k1 = DequantizeLinear (w1, s1, z)
                y = Gemm (d, k1, b1)
                k2 = DequantizeLinear (w2, s1, z)
                v = Gemm (d, k2, b2)
            }""",
        ),
        Counterexample(
            "one output channel",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,2,1,1] w = {64, 32}, float sw = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k)
            }""",
        ),
        Counterexample(
            "the convolution runs in float: only its weights are INT8",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                y = Conv (x, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        if graph.opset < PER_CHANNEL:
            return
        done: set[str] = set()
        for layer in (*_convolutions(graph), *_merged_products(graph)):
            pair = pairs(graph).made(layer.inputs[1].name)
            if pair is None or pair.key in done or not _is_plain(pair):
                continue
            axis, shape = channel_axis(graph, pair), graph.shape(pair.tensor)
            channels = 0 if axis is None or shape is None else shape[axis] or 0
            if axis is None or channels < 2:
                continue  # other operators read them along another axis, or there is nothing to repeat
            done.add(pair.key)
            yield self.finding(
                layer,
                f"the weights '{pair.tensor}' have a per-tensor scale for {channels} output channels",
                help="repeat the scale for every output channel",
                edits=[_spread(pair, channels, axis)],
            )


def _convolutions(graph: Graph) -> Iterator[Node]:
    """Yields the convolutions that read a pair."""
    for convolution in graph.nodes("Conv"):
        if pairs(graph).made(convolution.inputs[0].name) is not None:
            yield convolution


def _merged_products(graph: Graph) -> Iterator[Node]:
    """Yields the matrix products that read one pair, if their weights have different scales and most have a bias."""
    groups: dict[tuple[str, float], list[Node]] = defaultdict(list)
    for product in graph.nodes("MatMul", "Gemm"):
        pair, weights = (pairs(graph).made(t.name) for t in product.inputs[:2])
        if pair is not None and pair.per_tensor and weights is not None and weights.kind == "weight":
            groups[_data(graph, pair.site), pair.value].append(product)
    for group in groups.values():
        made = [pairs(graph).made(product.inputs[1].name) for product in group]
        scales = {w.value if w.per_tensor else None for w in made if w is not None}
        biased = sum(_has_bias(graph, product) for product in group)
        if len(scales) > 1 and 2 <= biased >= len(group) - biased:
            yield from group


def _data(graph: Graph, tensor: str) -> str:
    """Returns the tensor upstream whose data a tensor has in another shape."""
    while (node := graph.producer(tensor)) is not None and node.op in VIEWS:
        tensor = pairs(graph).root(node.inputs[0].name)
    return tensor


def _has_bias(graph: Graph, product: Node) -> bool:
    """Returns whether a constant is added to the product."""
    if any(t.name for t in product.inputs[2:]):
        return True
    adds = [r for r in graph.readers(key(product)) if r.node.op == "Add"]
    return any(graph.is_constant(r.node.inputs[1 - r.index].name) for r in adds)


def _spread(pair: Pair, channels: int, axis: int) -> SetPair:
    scale, zero_point = np.full(channels, pair.value, pair.types[0]), np.zeros(channels, np.int8)
    return SetPair(tuple(key(n) for n in pair.nodes), Constant.of(scale), Constant.of(zero_point), axis)


def _is_plain(pair: Pair) -> bool:
    """Returns whether these are symmetric per-tensor INT8 weights."""
    return pair.kind == "weight" and pair.per_tensor and pair.symmetric and pair.types[1] == "int8"
