"""QDQ408."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rule, Safety, key, pairs


class PairDisagrees(Rule):
    """A DequantizeLinear has another scale or zero-point than its QuantizeLinear.

    Why: TensorRT fuses a pair into one rounding with one scale. Two scales multiply the tensor by their ratio, which no
    quantizer intends. Tools that edit only one of the two nodes leave such pairs.
    Source: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """

    code, name, safety = "QDQ408", "pair-disagrees", Safety.MANUAL

    examples = [
        Example(
            "different scales",
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
            "two constants of equal value",
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
                    f"{readers} dequantizes '{pair.tensor}' with another scale or zero-point than its Q",
                    help="give both nodes the same scale and zero-point",
                )
