"""QDQ404."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Quantization,
    Rule,
    Safety,
    SetPair,
    Severity,
    bits_lost,
    clips_negatives,
    is_locked,
    key,
    pairs,
    remove_pair,
    rescale,
    scale_from_amax,
)

MAX_BITS_LOST = 1.0
"""Largest resolution loss in bits of the channel with the smallest range when one scale replaces all."""


class ActivationPerChannel(Rule):
    """An activation is quantized per channel.

    Why: TensorRT accepts only a per-tensor scale for an activation; per-channel scales are for constant weights. The
    repair uses the largest range: nothing is clipped, and channels with smaller ranges lose resolution. If a channel
    would lose more than one bit, the tensor stays in floating point instead. NNCF quantizes the inputs of depthwise
    convolutions per channel. A single scale of shape [1] counts as per-channel in TensorRT-RTX, which then runs the
    convolution in floating point; a scalar of the same value runs it in INT8.
    Source: https://github.com/NVIDIA/TensorRT/blob/release/11.1/include/NvInfer.h (IQuantizeLayer); scales of shape [1]:
    measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ404", "activation-per-channel", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "an activation with two scales of similar size",
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
            "asymmetric channels of very different ranges: the clipping limits of each channel are kept",
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
        Example(
            "one scale of shape [1]: a scalar",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float[1] s = {0.1}, int8[1] z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "a per-tensor scale",
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
            if pair.kind != "activation" or pair.scale is None:
                continue
            if pair.scale.size == 1:
                yield from self._with_dimensions(pair)
                continue
            quantization = Quantization.of(pair)
            what = f"the activation '{pair.tensor}' has {pair.scale.size} scales; TensorRT accepts one"
            if quantization is None or not (quantization.scale > 0).all() or is_locked(pair):
                yield self.finding(pair.nodes[0], what, help="calibrate it per tensor")
                continue
            amax = quantization.amax()
            lost = bits_lost(float(amax.max()), float(amax.min()))
            if lost <= MAX_BITS_LOST and not clips_negatives(graph, pair):
                edit = rescale(graph, pair, np.asarray(scale_from_amax(amax.max()), quantization.scale.dtype), None)
                yield self.finding(
                    pair.nodes[0],
                    what,
                    help="use the largest scale",
                    bits_lost=None if edit is None else lost,
                    edits=() if edit is None else [edit],
                )
                continue
            reason = "its range starts at zero, like the output of a Relu"
            if lost > MAX_BITS_LOST:
                reason = f"with one scale the finest channel would lose {lost:.2f} bits"
            edits = remove_pair(graph, pair)
            help = f"leave it in floating point: {reason}" if edits else "calibrate it per tensor"
            yield self.finding(pair.nodes[0], what, help=help, edits=edits)

    def _with_dimensions(self, pair: Pair) -> Iterator[Finding]:
        """Yields the finding about one scale that is not a scalar."""
        scale, zero_point = pair.scale, pair.zero_point
        if scale is None or not scale.ndim or zero_point is None or zero_point.size != 1 or not pair.agrees:
            return
        scalars = (Constant.of(scale.reshape(())), Constant.of(zero_point.reshape(())))
        yield self.finding(
            pair.nodes[0],
            f"the scale of the activation '{pair.tensor}' has the shape {list(scale.shape)}, as per-channel scales have",
            help="store it as a scalar",
            severity=Severity.WARNING,
            edits=[SetPair(tuple(key(n) for n in pair.nodes), *scalars)],
            safety=Safety.EXACT,
        )
