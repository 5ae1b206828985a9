"""QDQ202."""

from collections.abc import Iterator

from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Rewire, Rule, Safety, key, residuals, sites


class ResidualConvPaired(Rule):
    """A Q/DQ pair separates a convolution block from the residual Add that it should fuse with.

    Why: Conv (BatchNorm, activation) and Add become one kernel only if no pair separates them. With a pair, the
    convolution ends at its own Q, and the Add with its activation becomes a separate kernel. If both operands are
    convolutions (a downsampling block), exactly one stays unquantized: the one with the longer path.
    Source: https://docs.nvidia.com/deeplearning/tensorrt/tensorflow-quantization-toolkit/docs/docs/add_custom_qdq_cases.html
    ("exactly one Conv input"), Model Optimizer's build_non_residual_input_map,
    https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/quantization/graph_utils.py
    """

    code, name, safety = "QDQ202", "residual-conv-paired", Safety.LOSSY

    examples = [
        Example(
            "both operands quantized, as exported from a QuantAdd with two quantizers",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.1}, float s2 = {0.15}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
                {
                    k = DequantizeLinear (w, sw, z)
                    q = QuantizeLinear (x, s, z)
                    d = DequantizeLinear (q, s, z)
                    c = Conv (d, k)
                    q2 = QuantizeLinear (c, s2, z)
                    d2 = DequantizeLinear (q2, s2, z)
                    a = Add (d2, d)
                    q3 = QuantizeLinear (a, s3, z)
                    d3 = DequantizeLinear (q3, s3, z)
                    y = Conv (d3, k)
                }""",
            after="""
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
                    d3 = DequantizeLinear (q3, s3, z)
                    y = Conv (d3, k)
                }""",
        ),
        Counterexample(
            "the output of the block has another consumer, so the block cannot fuse with the Add",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
            <float s = {0.1}, float s2 = {0.15}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                q2 = QuantizeLinear (c, s2, z)
                d2 = DequantizeLinear (q2, s2, z)
                v = Conv (d2, k)
                a = Add (d2, d)
                q3 = QuantizeLinear (a, s3, z)
                y = DequantizeLinear (q3, s3, z)
            }""",
        ),
        Counterexample(
            "two convolution operands, the one with the shorter path has a pair",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, float s2 = {0.1}, float s3 = {0.2}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, z)
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                c = Conv (d, k)
                q2 = QuantizeLinear (c, s2, z)
                d2 = DequantizeLinear (q2, s2, z)
                long = Conv (d2, k)
                short = Conv (d, k)
                qs = QuantizeLinear (short, s2, z)
                ds = DequantizeLinear (qs, s2, z)
                a = Add (long, ds)
                q3 = QuantizeLinear (a, s3, z)
                y = DequantizeLinear (q3, s3, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for found in residuals(graph):
            side = found.conv
            other_unquantized = any(s.fusible and s.pair is None for s in found.skips)
            if side is None or side.pair is None or other_unquantized or key(found.add) not in sites(graph).feeds:
                continue
            yield self.finding(
                found.add,
                f"the convolution operand '{side.site}' of the residual Add is quantized before the Add",
                help=f"let the Add read '{side.site}' unquantized",
                edits=[Rewire((key(found.add), side.index), side.site)],
                bytes=4 * graph.elements(side.site),
            )
