"""QDQ105."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graph,
    Rule,
    Safety,
    Tie,
    pairs,
    scales_at,
    skips_convolution,
)


class ResidualScalesDiffer(Rule):
    """The skip of a residual Add and a convolution that reads the same tensor quantize it with different scales.

    Why: The fused Conv+Add+activation kernel reads the skip as INT8. With the convolution's scale this is the tensor
    that the upstream block wrote for the convolution. With a different scale the tensor is stored twice, as INT8 and as
    float.
    Source: docs/tensorrt.md, measured on TensorRT-RTX 1.7.1; in NVIDIA's residual-quantized ResNet-18 engine, conv1 and
    Add read the same INT8 tensor:
    https://github.com/NVIDIA/TensorRT/tree/release/11.0/tools/experimental/trt-engine-explorer/examples/pytorch/resnet/A100
    """

    code, name, safety = "QDQ105", "residual-scales-differ", Safety.LOSSY

    examples = [
        Example(
            "separate quantizers for the Add (from a QuantAdd module) and for the convolution",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s1 = {0.1}, float s2 = {0.12}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s1, z)
                    d1 = DequantizeLinear (q1, s1, z)
                    c = Conv (d1, k)
                    q2 = QuantizeLinear (x, s2, z)
                    d2 = DequantizeLinear (q2, s2, z)
                    a = Add (c, d2)
                    q3 = QuantizeLinear (a, s3, z)
                    d3 = DequantizeLinear (q3, s3, z)
                    y = Conv (d3, k)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.12}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q1 = QuantizeLinear (x, s, z)
                    d1 = DequantizeLinear (q1, s, z)
                    c = Conv (d1, k)
                    d2 = DequantizeLinear (q1, s, z)
                    a = Add (c, d2)
                    q3 = QuantizeLinear (a, s3, z)
                    d3 = DequantizeLinear (q3, s3, z)
                    y = Conv (d3, k)
                }""",
        ),
        Counterexample(
            "the skip and the convolution read the same pair",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                a = Add (c, d)
                q3 = QuantizeLinear (a, s3, z)
                y = DequantizeLinear (q3, s3, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for site, mine in pairs(graph).divided():
            if skips_convolution(graph, site):
                yield self.finding(
                    mine[0].nodes[0],
                    f"'{site}' is the skip of a residual Add and the input of a convolution, quantized with "
                    f"a different scale for each: {scales_at(graph, (site,))}",
                    tie=Tie((site,)),
                    bytes=4 * graph.elements(site),
                    place=site,
                )
