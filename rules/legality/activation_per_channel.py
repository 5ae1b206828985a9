"""QDQ404."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Quantization,
    Rule,
    Safety,
    Severity,
    bits_lost,
    clips_negatives,
    is_locked,
    pairs,
    remove_pair,
    rescale,
    scale_from_amax,
)

MOST = 1.0
"""Bits that the finest channel may lose to one scale."""


class ActivationPerChannel(Rule):
    """An activation is quantized per channel.

    Why: TensorRT takes one scale for an activation; per-channel scales are for weights, which are constants. The
    repair takes the largest range: nothing is clipped, and the others lose what lies between. Where that is more than
    one bit the tensor stays in floating point instead. NNCF quantizes the inputs of depthwise convolutions so.
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
        Example(
            "asymmetric, of very different ranges: the limits of each channel stay",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float[2] s = {0.125, 0.001953125}, uint8[2] z = {0, 0}>
            {
                q = QuantizeLinear <axis = 1> (x, s, z)
                d = DequantizeLinear <axis = 1> (q, s, z)
                y = Neg (d)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float[1,2,1,1] lo = {0, 0}, float[1,2,1,1] hi = {31.875, 0.49804688}>
            {
                a = Max (x, lo)
                d = Min (a, hi)
                y = Neg (d)
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
            grid = Quantization.of(pair)
            if pair.kind != "activation" or pair.scale is None or pair.scale.size == 1:
                continue
            what = f"the activation '{pair.tensor}' has {pair.scale.size} scales; TensorRT takes one"
            if grid is None or not (grid.scale > 0).all() or is_locked(pair):
                yield self.finding(pair.nodes[0], what, help="calibrate it per tensor")
                continue
            amax = grid.amax()
            lost = bits_lost(float(amax.max()), float(amax.min()))
            if lost <= MOST and not clips_negatives(graph, pair):
                edit = rescale(graph, pair, np.asarray(scale_from_amax(amax.max()), grid.scale.dtype), None)
                yield self.finding(
                    pair.nodes[0],
                    what,
                    help="take the largest of them",
                    bits_lost=None if edit is None else lost,
                    edits=() if edit is None else [edit],
                )
                continue
            reason = f"with one scale the finest channel would lose {lost:.2f} bits"
            help = f"leave it in floating point: {reason if lost > MOST else 'its range begins at zero, as a Relu'}"
            yield self.finding(pair.nodes[0], what, help=help, edits=remove_pair(graph, pair))
