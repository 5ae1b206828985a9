"""QDQ403."""

from collections.abc import Iterator

import numpy as np

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Severity, pairs


class ScaleNotPositive(Rule):
    """A scale is zero, negative, infinite or no number.

    Why: every coefficient of a scale must be a positive number, else the parser refuses the graph. Channels whose
    weights are all zero, and quantizers that never saw data, leave such scales.
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
            bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if not bad.size:
                continue
            shown = ", ".join(f"{values[i]:g}" + (f" at channel {i}" if values.size > 1 else "") for i in bad[:4])
            more = f" and {bad.size - 4} more" if bad.size > 4 else ""
            yield self.finding(
                pair.nodes[0],
                f"the scale of '{pair.tensor}' is {shown}{more}; TensorRT takes positive numbers only",
                help="calibrate this quantizer, or take it out of quantization",
            )
