"""QDQ407."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Severity, is_foreign


class OperatorForeign(Rule):
    """A quantized operator is not in the Q/DQ form.

    Why: TensorRT reads explicit Q/DQ only. It has no QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger or
    DynamicQuantizeLinear, and does not know the Q/DQ of other operator domains.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md
    """

    code, name, safety = "QDQ407", "operator-foreign", Safety.MANUAL
    severity = Severity.ERROR

    examples = [
        Example(
            "QLinearConv",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}>
            {
                q = QuantizeLinear (x, s, z)
                c = QLinearConv (q, s, z, w, s, z, s, z)
                y = DequantizeLinear (c, s, z)
            }""",
        ),
        Counterexample(
            "Q/DQ",
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
        for node in graph.nodes():
            if is_foreign(node):
                domain = f" of domain {node.domain}" if node.domain else ""
                yield self.finding(
                    node,
                    f"TensorRT has no {node.op}{domain}",
                    help="export the model with QuantizeLinear/DequantizeLinear pairs",
                )
