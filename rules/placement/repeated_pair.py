"""QDQ206."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Rewire, Rule, Safety, key, pairs


class RepeatedPair(Rule):
    """A pair stands directly behind a pair with the same scale.

    Why: the second rounds nothing. It costs a kernel where the pairs are not merged, and hides the first from the
    fusions that look one node ahead. With different scales the two are tied by QDQ104 first.
    Source: https://github.com/NVIDIA/TensorRT/issues/4467, https://github.com/microsoft/onnxruntime/pull/16910
    """

    code, name, safety = "QDQ206", "repeated-pair", Safety.EXACT

    examples = [
        Example(
            "two pairs in a row",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s, z)
                    d1 = DequantizeLinear (q1, s, z)
                    q2 = QuantizeLinear (d1, s, z)
                    d2 = DequantizeLinear (q2, s, z)
                    y = Conv (d2, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s, z)
                    d2 = DequantizeLinear (q1, s, z)
                    y = Conv (d2, k)
                }""",
        ),
        Counterexample(
            "a pool between: TensorRT needs both",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,2,2] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q1 = QuantizeLinear (x, s, z)
                d1 = DequantizeLinear (q1, s, z)
                m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d1)
                q2 = QuantizeLinear (m, s, z)
                y = DequantizeLinear (q2, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        table = pairs(graph)
        for pair in table:
            before = table.made(pair.tensor) if pair.quantize is not None else None
            if before is None or pair.pinned or not pair.same_grid(before):
                continue
            source = graph.node(pair.tensor).inputs[0].name
            yield self.finding(
                pair.nodes[0],
                f"'{pair.tensor}' is already rounded with this scale, {pair.value:.4g}",
                help="read the first pair",
                edits=[Rewire((key(d), 0), source) for d in pair.dequantizes],
            )
