"""QDQ419."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    PAIRS,
    REAL,
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Pair,
    Retype,
    Rule,
    Safety,
    Severity,
    input_name,
    insert_before,
    key,
    label,
    make_constant,
    make_node,
    mixed_operands,
    numpy_type,
    pairs,
    read_type,
    type_name,
)

FLOAT, DOUBLE = 1, 11
"""`onnx.TensorProto` data types."""
MIXED = 23
"""The first opset in which a QuantizeLinear may have a scale of another type than its input."""


class PairTypes(Rule):
    """The scale of a QuantizeLinear has another type than its input, or an operator reads pairs of different types.

    Why: below opset 23 the scale of a QuantizeLinear must have the type of its input; onnx.checker and ONNX Runtime
    reject other models, and TensorRT refuses FP8 pairs of mixed types in every opset. The type of a scale is the type of
    the dequantized tensor, and TensorRT refuses a convolution whose operands have different types. The repair converts
    the input to the type of the scale, as ONNX defines it from opset 23 on: by a Cast, or in the file if it is a
    constant. Operands are converted to the type of the operand that is not dequantized, else of the first.
    Source: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html, https://github.com/NVIDIA/Model-Optimizer/issues/118,
    measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ419", "pair-types", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "FP32 weights with an FP16 scale",
            before="""
            <ir_version: 9, opset_import: ["" : 19]>
            g (float16[1,1,4,4] x) => (float16[1,1,4,4] y)
            <float16 s = {12288}, int8 z = {0}, float[1,1,1,1] w = {0.5}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                r = QuantizeLinear (w, s, z)
                k = DequantizeLinear (r, s, z)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 9, opset_import: ["" : 19]>
            g (float16[1,1,4,4] x) => (float16[1,1,4,4] y)
            <float16 s = {12288}, int8 z = {0}, float16[1,1,1,1] w = {14336}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                r = QuantizeLinear (w, s, z)
                k = DequantizeLinear (r, s, z)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "an FP16 tensor with an FP32 scale",
            before="""
            <ir_version: 9, opset_import: ["" : 19]>
            g (float16[1,4] x) => (float[1,4] y)
            <float s = {0.125}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Relu (d)
            }""",
            after="""
            <ir_version: 9, opset_import: ["" : 19]>
            g (float16[1,4] x) => (float[1,4] y)
            <float s = {0.125}, int8 z = {0}>
            {
                c = Cast <to = 1> (x)
                q = QuantizeLinear (c, s, z)
                d = DequantizeLinear (q, s, z)
                y = Relu (d)
            }""",
        ),
        Example(
            "FP16 activations and FP32 weights",
            before="""
            <ir_version: 9, opset_import: ["" : 19]>
            g (float16[1,1,4,4] x) => (float16[1,1,4,4] y)
            <float16 s = {12288}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.25}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 9, opset_import: ["" : 19]>
            g (float16[1,1,4,4] x) => (float16[1,1,4,4] y)
            <float16 s = {12288}, int8 z = {0}, int8[1,1,1,1] w = {64}, float16 sw = {13312}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "an FP64 tensor with an FP32 scale",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (double[1,4] x) => (float[1,4] y)
            <float s = {0.125}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Relu (d)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (double[1,4] x) => (float[1,4] y)
            <float s = {0.125}, int8 z = {0}>
            {
                c = Cast <to = 1> (x)
                q = QuantizeLinear (c, s, z)
                d = DequantizeLinear (q, s, z)
                y = Relu (d)
            }""",
        ),
        Counterexample(
            "an FP16 pair",
            """
            <ir_version: 9, opset_import: ["" : 19]>
            g (float16[1,4] x) => (float16[1,4] y)
            <float16 s = {12288}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if pair.quantize is not None and (found := self._input(graph, pair, pair.quantize)) is not None:
                yield found
        for node in graph.nodes():
            if node.op not in PAIRS and (mixed := mixed_operands(graph, node)):
                yield from self._operands(graph, node, mixed)

    def _input(self, graph: Graph, pair: Pair, node: Node) -> Finding | None:
        """Returns the finding about a QuantizeLinear whose input has another type than its scale."""
        own, wanted = (read_type(graph, node, index) for index in (0, 1))
        if own == wanted or own not in REAL or wanted not in REAL or wanted == DOUBLE:
            return None  # QDQ424 reports a scale in FP64
        if graph.opset >= MIXED and pair.types[1] in ("int8", "uint8"):
            return None
        return self.finding(
            node,
            f"'{pair.tensor}' is {type_name(own)} and its scale {type_name(wanted)}; "
            "a QuantizeLinear has one type for both",
            help=f"convert '{pair.tensor}' to {type_name(wanted)}",
            edits=_narrowed(graph, node, wanted) if own == DOUBLE else _converted(graph, node, 0, wanted),
            safety=Safety.EXACT if wanted == FLOAT and own != DOUBLE else None,
        )

    def _operands(self, graph: Graph, node: Node, mixed: dict[int, int]) -> Iterator[Finding]:
        """Yields the finding about operands of different types if a DequantizeLinear produces one of them."""
        made = {i for i in mixed if pairs(graph).made(input_name(node, i)) is not None}
        if not made or DOUBLE in [mixed[index] for index in made]:
            return
        given = [kind for index, kind in mixed.items() if index not in made]
        wanted = given[0] if given else mixed[min(mixed)]
        said = " and ".join(sorted({type_name(kind) for kind in mixed.values()}))
        yield self.finding(
            node,
            f"{label(node)} reads {said}; its operands must have one type",
            help=f"convert them to {type_name(wanted)}",
            edits=[]
            if DOUBLE in mixed.values()
            else [e for i, kind in mixed.items() if kind != wanted for e in _operand(graph, node, i, wanted)],
        )


def _narrowed(graph: Graph, quantize: Node, wanted: int) -> list[Graft]:
    """Returns the edit that converts the FP64 input of a QuantizeLinear, as `_converted`; `Retype` knows no FP64."""
    tensor = input_name(quantize, 0)
    name, array = f"{tensor}_{numpy_type(wanted)}", graph.array(tensor)
    if array is None:
        return [insert_before((key(quantize), 0), [make_node("Cast", [tensor], name, to=numpy_type(wanted))])]
    with np.errstate(over="ignore"):
        narrow = array.astype(numpy_type(wanted))
    fits = bool(np.isfinite(narrow.astype(np.float32)).all())
    return [insert_before((key(quantize), 0), [make_constant(name, narrow)])] if fits else []


def _converted(graph: Graph, node: Node, index: int, kind: int) -> list[Retype]:
    """Returns the edit that converts an operand; none if a constant has values beyond the range of the type."""
    array = graph.array(input_name(node, index))
    with np.errstate(over="ignore"):
        fits = array is None or bool(np.isfinite(array.astype(numpy_type(kind)).astype(np.float32)).all())
    return [Retype((key(node), index), kind)] if fits else []


def _operand(graph: Graph, node: Node, index: int, kind: int) -> list[Retype]:
    """Returns the edits that convert an operand: the type of its pair if only this node reads that, else as
    `_converted`."""
    tensor = input_name(node, index)
    pair = pairs(graph).made(tensor)
    if pair is None or len(pair.dequantizes) > 1 or len(graph.readers(tensor)) > 1 or tensor in graph.outputs:
        return _converted(graph, node, index, kind)
    if pair.quantize is not None and pair.pinned:
        return _converted(graph, node, index, kind)
    if any(n.attrs.get("output_dtype") for n in pair.nodes) or tensor not in graph.proto(node).input:
        return _converted(graph, node, index, kind)
    scales = [edit for member in pair.nodes for edit in _converted(graph, member, 1, kind)]
    return scales if pair.quantize is None else [*scales, *_converted(graph, pair.quantize, 0, kind)]
