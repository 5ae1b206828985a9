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

LEAST = np.finfo(np.float32).smallest_normal


class ScaleNotPositive(Rule):
    """A scale is zero, negative, denormal, infinite or NaN.

    Why: Every scale value must be positive, otherwise the parser refuses the graph; a GPU flushes a denormal scale to
    zero. Channels whose weights are all zero, and quantizers without calibration data, leave such scales. The file does
    not contain the correct scale, so the repair is made on request only: weights get scales that fit them, and an
    activation without a range stays in floating point. Weights with negative scales are repaired without a request:
    onnxruntime's 4-bit quantizer writes them so that -8 represents the value of largest magnitude.
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
            bad = np.flatnonzero(~(np.isfinite(values) & (values >= LEAST)))
            if not bad.size:
                continue
            negated = _negative_scales(graph, pair) if pair.kind == "weight" and np.all(values[bad] < 0) else ()
            shown = ", ".join(f"{values[i]:g}" + (f" at channel {i}" if values.size > 1 else "") for i in bad)
            yield self.finding(
                pair.nodes[0],
                f"the scale of '{pair.tensor}' is {shown}; TensorRT requires positive normal values",
                help="store the weights with positive scales, or as dequantized floats"
                if negated
                else "calibrate this quantizer, or remove its pair; on request",
                edits=negated or _repair(graph, pair),
                safety=Safety.LOSSY if negated else None,
            )


def _negative_scales(graph: Graph, pair: Pair) -> Sequence[Proposal]:
    """Returns edits for weights with negative scales: INT8 weights are requantized, others become floats."""
    if dequantized_weights(graph, pair) is None:
        return ()
    if pair.types[1] == "int8" and pair.scale is not None and pair.scale.ndim < 2:
        return _repair(graph, pair)
    return remove_pair(graph, pair)


def _repair(graph: Graph, pair: Pair) -> Sequence[Proposal]:
    """Returns edits that give weights fitting scales and remove the pair of an activation, whose range is unknown."""
    if pair.kind == "activation":
        return remove_pair(graph, pair)
    several = pair.scale is not None and pair.scale.size > 1
    edit = refit(graph, pair, channel_axis(graph, pair) if several else None)
    return () if edit is None else (edit,)
