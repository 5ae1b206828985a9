"""QDQ303."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    PER_CHANNEL,
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Rule,
    Safety,
    SetPair,
    channel_axis,
    key,
    pairs,
)


class WeightsPerTensor(Rule):
    """The weights of an INT8 convolution have one scale for all channels.

    Why: with one scale TensorRT-RTX folds what follows into the convolution itself: a residual Add then takes its
    skip as float, although it carries a pair, and an activation reads the result twice. With a scale for each output
    channel both land in the epilogue, which reads INT8. Writing the one scale out for every channel changes no
    number, and is the form that NVIDIA recommends for weights.
    Source: docs/tensorrt.md, measured on TensorRT-RTX 1.7.1; placement recommendation 7 in
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ303", "weights-per-tensor", Safety.EXACT

    examples = [
        Example(
            "one scale, written out for two channels",
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
        Counterexample(
            "one channel: one scale is all there is",
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
            "the convolution is float: its weights alone are stored as INT8",
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
        for convolution in graph.nodes("Conv"):
            pair = pairs(graph).made(convolution.inputs[1].name)
            if pair is None or pair.key in done or pairs(graph).made(convolution.inputs[0].name) is None:
                continue
            channels = _channels(graph, pair)
            if channels > 1:
                done.add(pair.key)
                yield self.finding(
                    convolution,
                    f"the weights '{pair.tensor}' have one scale for {channels} channels",
                    help="write the scale out for every channel",
                    edits=[_spread(pair, channels)],
                )


def _spread(pair: Pair, channels: int) -> SetPair:
    scale, zero_point = np.full(channels, pair.value, pair.types[0]), np.zeros(channels, np.int8)
    return SetPair(tuple(key(n) for n in pair.nodes), Constant.of(scale), Constant.of(zero_point), 0)


def _channels(graph: Graph, pair: Pair) -> int:
    """Output channels of plain per-tensor INT8 weights; 0 for any others."""
    if pair.kind != "weight" or not pair.per_tensor or not pair.symmetric or pair.types[1] != "int8":
        return 0
    if channel_axis(graph, pair) != 0:
        return 0  # another operator reads them too, along another axis
    three = all(len(node.inputs) == 3 and node.inputs[2].name for node in pair.nodes)
    shape = graph.shape(pair.tensor)
    return shape[0] or 0 if three and shape is not None and len(shape) > 2 else 0
