"""QDQ401."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    FLOATS,
    Counterexample,
    Example,
    Finding,
    Graph,
    Rule,
    Safety,
    Severity,
    argument_readers,
    keep_exact,
    key,
    make_symmetric,
    pair_readers,
    pairs,
    why_locked,
)


class ZeroPointNotZero(Rule):
    """A zero-point is not zero.

    Why: TensorRT quantizes symmetrically: every zero-point must be a constant zero, and the parser refuses others. The
    repair keeps the range, so no further values are clipped: scale = largest magnitude / 127, at most one bit coarser.
    A range that starts at zero also acts as a Relu, because onnxruntime removes Relus before such pairs; the repair
    adds the Relu again. Weights are dequantized and requantized, per output channel if the operator allows it. A
    constant that no INT8 layer reads keeps its exact values as floats instead, of four times the size.
    Source: https://github.com/NVIDIA/TensorRT/blob/release/11.1/include/NvInfer.h (IQuantizeLayer),
    https://github.com/NVIDIA/TensorRT/issues/2774
    """

    code, name, safety = "QDQ401", "zero-point-not-zero", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "an asymmetric activation",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {3}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.10314961}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Example(
            "a range that starts at zero replaces a Relu",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {-128}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.20078741}, int8 z = {0}>
            {
                r = Relu (x)
                q = QuantizeLinear (r, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Example(
            "asymmetric weights",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {101, -26}, float sw = {0.5}, int8 zw = {-26}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, zw)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {127, 0}, float[2] sw = {0.5, 0.5}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "an asymmetric table that no INT8 layer reads: its exact float values",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (int64[2] ids) => (float[2,2] y)
            <int8[2,2] table = {-128, 72, -28, 127}, float s = {0.5}, int8 z = {-28}>
            {
                d = DequantizeLinear (table, s, z)
                y = Gather (d, ids)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (int64[2] ids) => (float[2,2] y)
            <float[2,2] d = {-50, 50, 0, 77.5}>
            {
                y = Gather (d, ids)
            }""",
        ),
        Counterexample(
            "a symmetric activation",
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
            nodes = pair.nodes[:1] if pair.agrees else pair.nodes
            names = [n.inputs[2].name for n in nodes if len(n.inputs) > 2 and n.inputs[2].name]
            zeros = [zero for name in names if (zero := graph.value(name)) is not None and zero.dtype == np.int8]
            found = sorted({int(v) for zero in zeros for v in zero.reshape(-1) if v})
            if found and not argument_readers(graph, pair_readers(graph, pair)):  # arguments: QDQ429
                shown = ", ".join(map(str, found[:4])) + (", ..." if len(found) > 4 else "")
                what = f"the zero-point of '{pair.tensor}' is {shown}; TensorRT accepts only zero"
                edit, lost = make_symmetric(graph, pair) or (None, 0.0)
                if edit is None:
                    yield self.finding(pair.nodes[0], what, help=why_locked(graph, pair) or "quantize symmetrically")
                    continue
                if floats := keep_exact(graph, pair, edit):
                    exact = graph.is_reproducible(key(pair.dequantizes[0]))
                    yield self.finding(
                        pair.nodes[0], what, help=FLOATS, edits=floats, safety=Safety.EXACT if exact else Safety.LOSSY
                    )
                    continue
                yield self.finding(pair.nodes[0], what, help="quantize symmetrically", bits_lost=lost, edits=[edit])
