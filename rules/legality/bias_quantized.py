"""QDQ406."""

from collections.abc import Iterator, Sequence

from qdqgraph.rulekit import (
    BINARY,
    PAIRS,
    SAME_CONSTANT,
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    Reader,
    Rule,
    Safety,
    Severity,
    dequantized_weights,
    key,
    make_constant,
    pair_readers,
    pairs,
    replace,
)

THROUGH = SAME_CONSTANT | PAIRS | {"Transpose"}
"""Operators that pass a constant on without changing its values."""
REFUSED = BINARY | {"PRelu", "Where", "Clip", "BatchNormalization", "Concat"}
"""Operators whose quantized constants TensorRT was observed to refuse."""
TABLES = frozenset({"Einsum", "Gather", "LSTM", "GRU", "RNN"})
"""Operators, in addition to matrix products and convolutions, whose constants are weights."""


class BiasQuantized(Rule):
    """A bias, or another constant that is not a weight, is quantized.

    Why: TensorRT keeps biases in high precision and has no INT32 DequantizeLinear: the parser refuses the graph.
    onnxruntime's quantize_static writes such biases unless `QuantizeBias=False` is set. It also stores the constants of
    element-wise operators, normalizations and Concat as INT8. If such a constant is broadcast or concatenated, TensorRT
    inserts another operator between it and its DequantizeLinear and then refuses to build. The repair stores the
    dequantized floats; no value changes.
    Source: https://github.com/microsoft/onnxruntime/issues/14229, https://github.com/onnx/onnx-tensorrt/issues/850
    """

    code, name, safety = "QDQ406", "bias-quantized", Safety.EXACT
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
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}, float[1] bias = {0.0050000004}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k, bias)
            }""",
        ),
        Example(
            "a constant of an element-wise operator",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, int8 c = {24}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                three = DequantizeLinear (c, s, z)
                y = Add (d, three)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, float three = {3}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Add (d, three)
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
            found = list(_uses(graph, pair_readers(graph, pair)))
            bias = pair.kind == "bias" or (bool(found) and all(_bias(r) for r in found))
            operand = bool(found) and all(_bias(r) or _operand(r) for r in found)
            if pair.kind == "activation" or not (bias or operand):
                continue
            values = dequantized_weights(graph, pair)
            if values is None and not bias and not all(r.node.op in REFUSED for r in found):
                continue  # TensorRT accepts some of these
            edits = () if values is None else [replace([d], [make_constant(key(d), values)]) for d in pair.dequantizes]
            what = "bias" if bias else "non-weight constant"
            yield self.finding(
                pair.nodes[0],
                f"the {what} '{pair.tensor}' is quantized to {pair.types[1].upper()}; TensorRT requires float",
                help="store the dequantized float values",
                edits=edits,
            )


def _uses(graph: Graph, found: Sequence[Reader]) -> Iterator[Reader]:
    """Yields the inputs that compute with a constant, through Casts, shape changes and further pairs."""
    for reader in found:
        if reader.index == 0 and reader.node.op in THROUGH and key(reader.node) not in graph.outputs:
            yield from _uses(graph, graph.readers(key(reader.node)))
        else:
            yield reader


def _bias(reader: Reader) -> bool:
    return reader.index == 2 and reader.node.op in WEIGHTED


def _operand(reader: Reader) -> bool:
    """Returns whether the input is not a weight: neither of a matrix product or convolution, nor a lookup table."""
    node, known = reader.node, (reader.node.domain or "") in ("", "ai.onnx")
    weight = (node.op in WEIGHTED and reader.index < 2) or node.op in TABLES
    return reader.index >= 0 and known and not weight
