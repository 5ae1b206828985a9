"""QDQ407."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Rule,
    Safety,
    Severity,
    attributes,
    is_pair,
    key,
    make_node,
    replace,
    required_opset,
)

BLOCKED = "com.microsoft.nchwc"
"""Domain of operators on blocked channels, which onnxruntime's layout optimizer writes for a specific CPU."""
UNBLOCKED = "save the model without onnxruntime's layout optimization (at most ORT_ENABLE_EXTENDED)"
PAIRS = "export the model with Q/DQ pairs"
BLOCKS = "store its weights as blocked INT4 with a DequantizeLinear (quant_format=QuantFormat.QDQ in onnxruntime)"
ADVICE = {
    "QAttention": "quantize the model before its attention is fused; TensorRT has no onnxruntime Attention",
    "QEmbedLayerNormalization": "quantize the model before it is fused; TensorRT has no EmbedLayerNormalization",
    "QMoE": "export the experts as matrix products; TensorRT has no onnxruntime MoE",
    "MatMulBnb4": BLOCKS,
    "MatMulFpQ4": BLOCKS,
    "GatherBlockQuantized": "store the table in floating point: TensorRT has no quantized Gather",
}
"""What to do about operators that cannot be rewritten in Q/DQ format, by prefix of their name."""


class OperatorForeign(Rule):
    """A quantized operator is not in Q/DQ format.

    Why: TensorRT supports explicit Q/DQ only. It supports neither operators that compute on integers, nor dynamic
    quantization, nor Q/DQ of other operator domains. The Q/DQ of domain com.microsoft are equivalent to the standard
    ones. QDQ410, QDQ411, QDQ414, QDQ416 and QDQ418 rewrite the operators that have an equivalent with Q/DQ pairs.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md,
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """

    code, name, safety = "QDQ407", "operator-foreign", Safety.EXACT
    severity = Severity.ERROR
    quantized = (
        "*.QuantizeLinear",
        "*.DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger16",
        "MulInteger",
        "ReduceSumInteger",
        "QAttention",
        "QEmbedLayerNormalization",
        "QMoE",
        "QOrdered*",
        "QuantizeWithOrder",
        "DequantizeWithOrder",
        "MatMulNBits?*",
        "MatMulBnb4",
        "MatMulFpQ4",
        "MatMulBlockQuantized*",
        "GatherBlockQuantized",
    )

    examples = [
        Example(
            "Q/DQ of the com.microsoft domain",
            before="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = com.microsoft.QuantizeLinear (x, s, z)
                y = com.microsoft.DequantizeLinear (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Example(
            "dynamic quantization: the file does not contain its scale",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            {
                q, s, z = DynamicQuantizeLinear (x)
                d = DequantizeLinear (q, s, z)
                y = Relu (d)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            {
                d = Identity (x)
                y = Relu (d)
            }""",
        ),
        Example(
            "the integers of a dynamic quantization are a graph output",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (uint8[1,1,4,4] q, float s)
            {
                q, s, z = DynamicQuantizeLinear (x)
            }""",
        ),
        Counterexample(
            "a standard Q/DQ pair",
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
            if node.domain == BLOCKED:
                op = node.op.removeprefix(f"{BLOCKED}.")
                yield self.finding(node, f"TensorRT has no {op} of domain {BLOCKED}", help=UNBLOCKED)
        for node in self.quantized_nodes(graph):
            domain = f" of domain {node.domain}" if node.domain else ""
            if node.op == "DynamicQuantizeLinear" and (floats := _unquantized(graph, node)):
                help = "compute in floating point; the file does not contain its scale"
                yield self.finding(node, f"TensorRT has no {node.op}", help=help, edits=floats, safety=Safety.LOSSY)
                continue
            ours = is_pair(node) and node.domain == "com.microsoft"
            least = required_opset(graph, node) if ours else 0
            standard = ours and graph.opset >= least  # `fix` raises the opset if needed
            inputs = [t.name for t in node.inputs]
            edits = [replace([node], [make_node(node.op, inputs, key(node), attributes(graph, node))])]
            advice = next((text for op, text in ADVICE.items() if node.op.startswith(op)), PAIRS)
            later = f", opset {least}" if graph.opset < least else ""
            help = f"write it in the standard domain{later}" if ours else advice
            yield self.finding(node, f"TensorRT has no {node.op}{domain}", help=help, edits=edits if standard else ())


def _unquantized(graph: Graph, node: Node) -> list[Graft]:
    """Returns edits that replace each DequantizeLinear of a DynamicQuantizeLinear by its unquantized input; empty if
    another operator reads the integers, the scale or the zero-point."""
    made = [t.name for t in node.outputs]
    readers = [r.node for name in made for r in graph.readers(name)]
    undone = all(r.op == "DequantizeLinear" and [t.name for t in r.inputs] == made for r in readers)
    if not readers or not undone or graph.outputs & set(made):
        return []
    there = {key(r): r for r in readers}
    return [
        replace([r], [make_node("Identity", [node.inputs[0].name], name)], unread=[node]) for name, r in there.items()
    ]
