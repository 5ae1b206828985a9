"""QDQ205."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Pair, Rewire, Rule, Safety, key, pairs


class DuplicatePairs(Rule):
    """One tensor is quantized several times with one scale.

    Why: the copies round alike, so one Q with several DQs says the same and leaves TensorRT nothing to merge.
    Exporters write one pair for every reader; Model Optimizer writes one for every tensor.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/tensorflow-quantization-toolkit/docs/docs/add_custom_qdq_cases.html
    ("only one pair"), https://github.com/NVIDIA/TensorRT/issues/4467
    """

    code, name, safety = "QDQ205", "duplicate-pairs", Safety.EXACT

    examples = [
        Example(
            "two pairs, two scale constants of one value",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s = {0.1}, float t = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s, z)
                    d1 = DequantizeLinear (q1, s, z)
                    y = Conv (d1, k)
                    q2 = QuantizeLinear (x, t, z)
                    d2 = DequantizeLinear (q2, t, z)
                    v = Conv (d2, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s = {0.1}, float t = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s, z)
                    d1 = DequantizeLinear (q1, s, z)
                    y = Conv (d1, k)
                    d2 = DequantizeLinear (q1, t, z)
                    v = Conv (d2, k)
                }""",
        ),
        Counterexample(
            "one bit of difference",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
            <float s = {0.1}, float t = {0.10000001}, int8 z = {0}>
            {
                q1 = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q1, s, z)
                q2 = QuantizeLinear (x, t, z)
                v = DequantizeLinear (q2, t, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        table = pairs(graph)
        for tensor in dict.fromkeys(p.tensor for p in table if p.tieable and p.quantize is not None):
            kept: list[Pair] = []
            for pair in (p for p in table.at(tensor) if p.tensor == tensor):
                first = next((p for p in kept if p.same_grid(pair)), None)
                if first is None or pair.pinned:
                    kept.append(pair)
                    continue
                yield self.finding(
                    pair.nodes[0],
                    f"'{tensor}' is quantized again with the scale of '{first.key}', {pair.value:.4g}",
                    help=f"read '{first.key}'",
                    edits=[Rewire((key(d), 0), first.key) for d in pair.dequantizes],
                )
