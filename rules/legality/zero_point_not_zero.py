"""QDQ401."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Severity, pairs


class ZeroPointNotZero(Rule):
    """A zero-point is not zero.

    Why: TensorRT quantizes symmetrically: every zero-point must be a constant zero, and the parser refuses others.
    Source: https://github.com/NVIDIA/TensorRT/blob/release/11.1/include/NvInfer.h (IQuantizeLayer),
    https://github.com/NVIDIA/TensorRT/issues/2774
    """

    code, name, safety = "QDQ401", "zero-point-not-zero", Safety.MANUAL
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
        ),
        Counterexample(
            "symmetric",
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
            found = {int(v) for name in names if (zero := graph.value(name)) is not None for v in zero.reshape(-1) if v}
            if found:
                values = sorted(found)
                shown = ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")
                yield self.finding(
                    pair.nodes[0],
                    f"the zero-point of '{pair.tensor}' is {shown}; TensorRT takes zero only",
                    help="quantize symmetrically",
                )
