"""QDQ403."""

from collections.abc import Iterator, Sequence

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Proposal,
    Rule,
    Safety,
    Severity,
    channel_axis,
    dequantized_weights,
    pairs,
    refit,
    remove_pair,
)


class ScaleNotPositive(Rule):
    """A scale is zero, negative, denormal, infinite or no number.

    Why: every coefficient of a scale must be a positive number, else the parser refuses the graph; a denormal one is
    zero to a GPU. Channels whose weights are all zero, and quantizers that never saw data, leave such scales. What
    they should be is not in the file, so the repair waits for a request: weights get scales that fit them, an
    activation without a range stays in floating point. Weights with negative scales are known: onnxruntime's 4-bit
    quantizer writes them, to have -8 on the side of the larger number.
    Source: https://github.com/NVIDIA/TensorRT/blob/release/11.1/include/NvInfer.h (IQuantizeLayer),
    https://github.com/NVIDIA/TensorRT/issues/2498
    """

    code, name, safety = "QDQ403", "scale-not-positive", Safety.MANUAL
    severity = Severity.ERROR

    examples = [
        Example(
            "a scale of zero",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.0}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "a positive scale",
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
            if pair.scale is None:
                continue
            values = pair.scale.astype(np.float64).reshape(-1)
            bad = np.flatnonzero(~(np.isfinite(values) & (values >= np.finfo(np.float32).smallest_normal)))
            if not bad.size:
                continue
            turned = _turned(graph, pair) if pair.kind == "weight" and np.all(values[bad] < 0) else ()
            shown = ", ".join(f"{values[i]:g}" + (f" at channel {i}" if values.size > 1 else "") for i in bad)
            yield self.finding(
                pair.nodes[0],
                f"the scale of '{pair.tensor}' is {shown}; TensorRT takes positive numbers only",
                help="store the weights with positive scales, or as the floats that they stand for"
                if turned
                else "calibrate this quantizer, or take it out of quantization; on request",
                edits=turned or _repair(graph, pair),
                safety=Safety.LOSSY if turned else None,
            )


def _turned(graph: Graph, pair: Pair) -> Sequence[Proposal]:
    """Weights whose scales are negative, which means what it says: INT8 is rounded anew, others become floats."""
    if dequantized_weights(graph, pair) is None:
        return ()
    if pair.types[1] == "int8" and pair.scale is not None and pair.scale.ndim < 2:
        return _repair(graph, pair)
    return remove_pair(graph, pair)


def _repair(graph: Graph, pair: Pair) -> Sequence[Proposal]:
    """Scales that fit the weights; an activation has no range to take one from, and stays in floating point."""
    if pair.kind == "activation":
        return remove_pair(graph, pair)
    several = pair.scale is not None and pair.scale.size > 1
    edit = refit(graph, pair, channel_axis(graph, pair) if several else None)
    return () if edit is None else (edit,)
