"""QDQ408."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety, key, pairs


class PairDisagrees(Rule):
    """A DequantizeLinear does not undo its QuantizeLinear: the scale or the zero-point is another.

    Why: TensorRT fuses a pair as one rounding with one scale. Two scales multiply the tensor by their ratio, which no
    quantizer means; such pairs are left by tools that edit one node of the two.
    Source: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """

    code, name, safety = "QDQ408", "pair-disagrees", Safety.MANUAL

    examples = [
        Example(
            "two scales",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float t = {0.2}, int8 z = {0}>
                {
                    q = QuantizeLinear (x, s, z)
                    y = DequantizeLinear (q, t, z)
                }""",
        ),
        Counterexample(
            "two constants of one value",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float t = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, t, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if not pair.agrees:
                readers = ", ".join(f"'{key(d)}'" for d in pair.dequantizes)
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is quantized with other parameters than {readers} dequantizes it with",
                    help="give both nodes one scale and one zero-point",
                )
