"""QDQ104."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Rule,
    Safety,
    Tie,
    normalizations,
    pairs,
    scales_at,
    skips_convolution,
)


class TensorQuantizedTwice(Rule):
    """A tensor is quantized several times, with different scales.

    Why: If the scales are equal, TensorRT merges the Qs and the producer writes INT8 once. If they differ, no Q fuses
    into the producer: the tensor is written as float and each Q becomes a separate kernel.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    (backward propagation), and "horizontal fusion" in the TensorFlow quantization toolkit,
    https://docs.nvidia.com/deeplearning/tensorrt/tensorflow-quantization-toolkit/docs/docs/add_custom_qdq_cases.html.
    """

    code, name, safety = "QDQ104", "tensor-quantized-twice", Safety.LOSSY

    examples = [
        Example(
            "two convolutions, each with its own input quantizer",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s1 = {0.1}, float s2 = {0.11}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s1, z)
                    d1 = DequantizeLinear (q1, s1, z)
                    y = Conv (d1, k)
                    q2 = QuantizeLinear (x, s2, z)
                    d2 = DequantizeLinear (q2, s2, z)
                    v = Conv (d2, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
                <float s = {0.11}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s, z)
                    d1 = DequantizeLinear (q1, s, z)
                    y = Conv (d1, k)
                    d2 = DequantizeLinear (q1, s, z)
                    v = Conv (d2, k)
                }""",
        ),
        Counterexample(
            "one pair with two consumers",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Conv (d, k)
                v = Conv (d, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for site, mine in pairs(graph).divided():
            if not skips_convolution(graph, site) and not normalizations(graph).encloses(site):
                yield self.finding(
                    mine[0].nodes[0],
                    f"'{site}' is quantized {len(mine)} times, with different scales: {scales_at(graph, (site,))}",
                    tie=Tie((site,)),
                    bytes=4 * graph.elements(site),
                    place=site,
                )
