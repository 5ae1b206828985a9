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
    """The weights of an INT8 convolution have a per-tensor scale.

    Why: With a per-tensor scale, TensorRT-RTX fuses downstream operators into the convolution itself: a residual Add
    then reads its skip as float although it has a pair, and an activation reads the convolution output twice. With
    per-channel scales both fuse into the epilogue, which reads INT8. Repeating the scale for every output channel
    changes no value; NVIDIA recommends per-channel scales for weights.
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
        for convolution in graph.nodes("Conv"):
            pair = pairs(graph).made(convolution.inputs[1].name)
            if pair is None or pair.key in done or pairs(graph).made(convolution.inputs[0].name) is None:
                continue
            channels = _channels(graph, pair)
            if channels > 1:
                done.add(pair.key)
                yield self.finding(
                    convolution,
                    f"the weights '{pair.tensor}' have a per-tensor scale for {channels} output channels",
                    help="repeat the scale for every output channel",
                    edits=[_spread(pair, channels)],
                )


def _spread(pair: Pair, channels: int) -> SetPair:
    scale, zero_point = np.full(channels, pair.value, pair.types[0]), np.zeros(channels, np.int8)
    return SetPair(tuple(key(n) for n in pair.nodes), Constant.of(scale), Constant.of(zero_point), 0)


def _channels(graph: Graph, pair: Pair) -> int:
    """Returns the number of output channels of symmetric per-tensor INT8 weights; 0 for other weights."""
    if pair.kind != "weight" or not pair.per_tensor or not pair.symmetric or pair.types[1] != "int8":
        return 0
    if channel_axis(graph, pair) != 0:
        return 0  # another operator also reads them, with another channel axis
    shape = graph.shape(pair.tensor)
    return shape[0] or 0 if shape is not None and len(shape) > 2 else 0
