"""QDQ423."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    ONE_TO_ONE,
    PAIRS,
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Reader,
    Rule,
    Safety,
    Severity,
    insert_before,
    key,
    label,
    make_constant,
    make_node,
    replace,
)

INT8 = 3
"""`onnx.TensorProto` data type."""
OPERATORS = ("QLinear", "Dynamic")
"""Prefixes of standard operators on integers, which other rules replace; also those that end in "Integer"."""


class IntegerConstantRead(Rule):
    """An operator other than DequantizeLinear reads an INT8 constant.

    Why: for TensorRT an INT8 constant is a quantized value, which only a DequantizeLinear may read; it refuses an Add or
    a Cast of one; limits of a Clip are accepted. What an operator computes from constants is stored instead. For an operator that also
    reads other values, the constant is stored as INT32 and cast, which TensorRT accepts.
    Source: measured on TensorRT-RTX 1.7.1 ("Quantized constant is only allowed before DQ")
    """

    code, name, safety = "QDQ423", "integer-constant-read", Safety.EXACT
    severity = Severity.ERROR

    examples = [
        Example(
            "integers that are cast",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <float s = {0.1}, int8 z = {0}, int8[2] c = {1, 2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                f = Cast <to = 1> (c)
                y = Add (d, f)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <float s = {0.1}, int8 z = {0}, float[2] f = {1, 2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Add (d, f)
            }""",
        ),
        Example(
            "an Add of integers",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <float s = {0.1}, int8 z = {0}, int8[2] c = {1, 2}>
            {
                q = QuantizeLinear (x, s, z)
                a = Add (q, c)
                y = DequantizeLinear (a, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <float s = {0.1}, int8 z = {0}, int32[2] c = {1, 2}>
            {
                q = QuantizeLinear (x, s, z)
                b = Cast <to = 3> (c)
                a = Add (q, b)
                y = DequantizeLinear (a, s, z)
            }""",
        ),
        Counterexample(
            "weights with a DequantizeLinear",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,3] y)
            <float s = {0.1}, int8 z = {0}, int8[2,3] w = {1, 3, 5, 2, 4, 6}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, s, z)
                y = MatMul (d, k)
            }""",
        ),
    ]

    opset = 6

    def quantized_nodes(self, graph: Graph) -> tuple[Node, ...]:
        """Returns the nodes that read INT8 constants: a model may have no other quantized part."""
        return tuple(readers[0].node for readers in graph.once(_found))

    def find(self, graph: Graph) -> Iterator[Finding]:
        for readers in graph.once(_found):
            node = readers[0].node
            tensor = str(node.inputs[readers[0].index].name)
            edits = _edits(graph, readers)
            yield self.finding(
                node,
                f"{label(node)} reads the INT8 constant '{tensor}'",
                help="store its result" if len(edits) == 1 and edits[0].replaced else "store the constant as INT32",
                edits=edits,
            )


def _found(graph: Graph) -> list[list[Reader]]:
    """Returns the inputs that this rule repairs, for each node with any."""
    found = ([r for r in _reads(graph, node) if not _elsewhere(graph, r)] for node in graph.nodes())
    return [readers for readers in found if readers]


def _reads(graph: Graph, node: Node) -> Iterator[Reader]:
    """Yields the inputs of a node of the standard domain that are INT8 constants."""
    if node.op in PAIRS or not node.inputs or node.domain not in ("", None, "ai.onnx"):
        return
    if node.op.startswith(OPERATORS) or node.op.endswith("Integer"):
        return
    given = node.inputs[:1] if node.op in ("Clip", "Pad") else node.inputs  # Clip and Pad read limits and a fill value
    for index, tensor in enumerate(given):
        if tensor.name and graph.dtype(tensor.name) == INT8 and _stored(graph, tensor.name):
            yield Reader(node, index)


def _stored(graph: Graph, tensor: str) -> bool:
    """Returns whether the tensor is an initializer that nobody feeds, or a Constant."""
    node = graph.producer(tensor)
    return node.op == "Constant" if node is not None else tensor in graph.initializers and tensor not in graph.inputs


def _elsewhere(graph: Graph, reader: Reader) -> bool:
    """Returns whether another rule repairs it: QDQ425 stored integers that an operator moves before their
    DequantizeLinear, QDQ412 a Clip, QDQ414 a table of quantized integers from which a data-movement op selects."""
    result = key(reader.node)
    if graph.is_constant(result):
        return reader.node.op == "Clip" or (graph.dtype(result) == INT8 and result not in graph.outputs)
    return reader.node.op in ONE_TO_ONE and reader.index == 0


def _edits(graph: Graph, readers: list[Reader]) -> list[Graft]:
    """Returns the edits: the result of the node as a constant, or a Cast from INT32 at each input."""
    node = readers[0].node
    result = graph.array(key(node)) if len(node.outputs) == 1 and key(node) not in graph.outputs else None
    if result is not None:
        return [replace([node], [make_constant(key(node), result)])]
    return [
        insert_before(
            reader.key,
            [
                make_constant(f"{key(node)}_int32", array.astype(np.int32)),
                make_node("Cast", [f"{key(node)}_int32"], f"{key(node)}_int8", to=np.dtype(np.int8)),
            ],
        )
        for reader in readers
        if (array := graph.array(str(node.inputs[reader.index].name))) is not None
    ]
