"""QDQ404."""

from collections.abc import Iterator

import numpy as np

from qdqgraph import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Rule,
    Safety,
    Severity,
    bits_lost,
    fixed,
    pairs,
    rescaled,
    unpaired,
)

MOST = 1.0
"""Bits that the finest channel may lose to one scale."""


class ActivationPerChannel(Rule):
    """An activation is quantized per channel.

    Why: TensorRT takes one scale for an activation; per-channel scales are for weights, which are constants. The
    repair takes the largest: nothing is clipped, and channels with a smaller scale lose what lies between. Where that is
    more than one bit the tensor stays in floating point instead. NNCF quantizes the inputs of depthwise convolutions so.
    Source: https://github.com/NVIDIA/TensorRT/blob/release/11.1/include/NvInfer.h (IQuantizeLayer)
    """

    code, name, safety = "QDQ404", "activation-per-channel", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "two scales for an activation",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float[2] s = {0.1, 0.2}, int8[2] z = {0, 0}>
            {
                q = QuantizeLinear <axis = 1> (x, s, z)
                y = DequantizeLinear <axis = 1> (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.2}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "one scale",
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
        for pair in pairs(graph):
            if pair.kind != "activation" or pair.scale is None or pair.scale.size == 1:
                continue
            what = f"the activation '{pair.tensor}' has {pair.scale.size} scales; TensorRT takes one"
            plain = pair.symmetric and pair.types[1] == "int8" and (pair.scale > 0).all() and not fixed(pair)
            lost = bits_lost(float(pair.scale.max()), float(pair.scale.min())) if plain else 0.0
            if plain and lost > MOST:
                help = f"leave it in floating point: with one scale the finest channel would lose {lost:.2f} bits"
                yield self.finding(pair.nodes[0], what, help=help, edits=unpaired(graph, pair))
                continue
            edit = rescaled(graph, pair, np.asarray(pair.scale.max()), None) if plain else None
            help = "calibrate it per tensor"
            if edit is not None:
                help = f"take the largest; the finest channel loses {lost:.2f} bits"
            yield self.finding(pair.nodes[0], what, help=help, edits=() if edit is None else [edit])
