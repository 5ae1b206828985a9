"""QDQ430."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    PAIRS,
    Counterexample,
    Example,
    Finding,
    Graph,
    Rule,
    Safety,
    Severity,
    attributes,
    key,
    make_node,
    replace,
)

ZERO_POINT = 2
"""The index of the zero-point among the inputs of a QuantizeLinear or DequantizeLinear."""


class ZeroPointEmpty(Rule):
    """A zero-point is an empty input.

    Why: ONNX has two spellings of an absent zero-point: two inputs, or a third one with an empty name. TensorRT accepts
    the first and refuses the second ("Invalid Node"). The repair removes the empty input; the values stay the same.
    Source: https://onnx.ai/onnx/repo-docs/IR.html (optional inputs), measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ430", "zero-point-empty", Safety.EXACT
    severity = Severity.ERROR

    examples = [
        Example(
            "weights without a zero-point",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, "")
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "both nodes of an activation's pair",
            before="""
            <ir_version: 10, opset_import: ["" : 21]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}>
            {
                q = QuantizeLinear <output_dtype = 3> (x, s, "")
                y = DequantizeLinear (q, s, "")
            }""",
            after="""
            <ir_version: 10, opset_import: ["" : 21]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}>
            {
                q = QuantizeLinear <output_dtype = 3> (x, s)
                y = DequantizeLinear (q, s)
            }""",
        ),
        Counterexample(
            "a zero-point that is left out",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes(*PAIRS):
            if len(node.inputs) > ZERO_POINT and not node.inputs[ZERO_POINT].name and not node.domain:
                inputs = [tensor.name for tensor in node.inputs[:ZERO_POINT]]
                shorter = make_node(node.op, inputs, key(node), attributes(graph, node))
                yield self.finding(
                    node,
                    f"the zero-point of '{node.inputs[0].name}' is an input with an empty name",
                    help="remove the empty input",
                    edits=[replace([node], [shorter])],
                )
