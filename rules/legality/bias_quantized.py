"""QDQ406."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Severity, pairs


class BiasQuantized(Rule):
    """A bias is stored as INT32 and dequantized.

    Why: TensorRT keeps biases in high precision and has no INT32 DequantizeLinear: the parser refuses the graph.
    onnxruntime's quantize_static writes such biases unless told `QuantizeBias=False`.
    Source: https://github.com/microsoft/onnxruntime/issues/14229, https://github.com/onnx/onnx-tensorrt/issues/850
    """

    code, name, safety = "QDQ406", "bias-quantized", Safety.MANUAL
    severity = Severity.ERROR

    examples = [
        Example(
            "an INT32 bias",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, int32[1] b = {5}, float sb = {0.001}, int32 zb = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                bias = DequantizeLinear (b, sb, zb)
                y = Conv (d, k, bias)
            }""",
        ),
        Counterexample(
            "a float bias",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float[1] b = {0.5}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k, b)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if pair.kind == "bias":
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is an INT32 bias behind a DequantizeLinear; TensorRT takes float biases",
                    help="store the bias as float",
                )
