"""QDQ420."""

from collections.abc import Iterator

from qdqgraph.rulekit import (
    PAIRS,
    REAL,
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    Rule,
    Safety,
    Severity,
    in_opset,
    input_name,
    mixed_operands,
    node_faults,
    pairs,
    read_type,
    written_for,
)

DOUBLE = 11
"""`onnx.TensorProto` data type."""


class NodeInvalid(Rule):
    """A node does not fit the definition of its operator in the opset of the model.

    Why: onnx.checker and ONNX Runtime reject such a model. TensorRT reads a Clip whose limits are
    attributes in opset 13, and refuses a Pad, Slice, TopK or Resize in the form of an earlier opset. Tools that only change the declared opset write
    them. A node in the form of an earlier opset is rewritten with the values that it has: an attribute becomes a
    constant input. If a node has the form of a later opset, `fix` raises the opset of the model. Errors of type and
    shape inference are reported with the node.
    Source: onnx.checker.check_model(full_check=True), https://github.com/OpenPPL/ppq/issues/39,
    https://github.com/onnx/onnx/blob/main/docs/Changelog.md, measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ420", "node-invalid", Safety.EXACT

    examples = [
        Example(
            "weights that do not fit the input",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4] x) => (float[1,2] y)
            <float s = {0.1}, int8 z = {0}, float[3,2] w = {1, 2, 3, 4, 5, 6}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = MatMul (d, w)
            }""",
        ),
        Counterexample(
            "weights that fit",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,4] x) => (float[1,1] y)
            <float s = {0.1}, int8 z = {0}, float[4,1] w = {1, 2, 3, 4}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = MatMul (d, w)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for place, fault in node_faults(graph).items():
            node = graph.node(place)
            if _reported(graph, node):
                continue
            own, edit = written_for(graph, node), in_opset(graph, node)
            if edit is not None:
                help = f"write the {node.op} of opset {own} as one of opset {graph.opset}"
            elif own is not None and own > graph.opset:
                help = f"raise the opset to {own}, for which it is written (`fix` does if every node can be converted)"
            else:
                help = "export the model again"
            yield self.finding(
                node,
                f"the {node.op} is invalid in opset {graph.opset}: {fault.rstrip('.')}",
                help=help,
                severity=None if edit is None else Severity.ERROR,
                edits=[] if edit is None else [edit],
            )


def _reported(graph: Graph, node: Node) -> bool:
    """Returns whether QDQ419 or QDQ424 reports the types of a node."""
    if node.op not in PAIRS:
        return any(pairs(graph).made(input_name(node, i)) is not None for i in mixed_operands(graph, node))
    kinds = [read_type(graph, node, index) for index in range(3)]
    if DOUBLE in kinds:
        return True
    if node.op == "QuantizeLinear":
        pair = pairs(graph).of(node)
        unfit = pair is not None and pair.zero_point is not None and pair.zero_point.dtype.itemsize > 2
        return unfit or (kinds[0] != kinds[1] and {*kinds[:2]} <= REAL)
    return kinds[2] is not None and kinds[0] != kinds[2]
