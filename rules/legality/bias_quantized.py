"""QDQ406."""

from collections.abc import Iterator, Sequence

from qdqgraph.rulekit import (
    MOVES_WEIGHTS,
    PAIRS,
    SAME_CONSTANT,
    WEIGHTED,
    Counterexample,
    Example,
    Finding,
    Graph,
    NodeInput,
    Pair,
    Reader,
    Rule,
    Safety,
    Severity,
    argument_readers,
    dequantized_weights,
    fold_integers,
    fold_moved,
    input_name,
    key,
    pair_readers,
    pairs,
    reader_axis,
    store_floats,
)

THROUGH = SAME_CONSTANT | PAIRS | MOVES_WEIGHTS
"""Operators that pass a constant on, and that TensorRT accepts after its DequantizeLinear."""
BUILT = frozenset({"int8", "float8_e4m3fn"})
"""Types of constants that TensorRT-RTX builds if they have dimensions and a zero-point of 0."""
TABLES = frozenset({"Einsum", "Gather", "LSTM", "GRU", "RNN"})
"""Operators, in addition to matrix products and convolutions, whose constants are weights."""


class BiasQuantized(Rule):
    """A bias, or another constant that is not a weight, is quantized.

    Why: TensorRT keeps biases in high precision and has no INT32 DequantizeLinear: the parser refuses the graph.
    onnxruntime's quantize_static writes such biases unless `QuantizeBias=False` is set. It also stores the constants of
    element-wise operators, normalizations and Concat as INT8. TensorRT refuses an INT8 constant without dimensions
    ("Quantized constant is only allowed before DQ"): an error. TensorRT-RTX builds those with dimensions: a warning,
    because the constant is rounded and no kernel becomes faster. The repair stores the dequantized floats; no value
    changes.
    Source: https://github.com/microsoft/onnxruntime/issues/14229, https://github.com/onnx/onnx-tensorrt/issues/850 for
    INT32. INT8 is measured on TensorRT-RTX 1.7.1: 17 operators, constants of nine shapes, per-tensor and per-channel.
    It refuses the constants without dimensions, also before an Identity or a Reshape, and builds all others, biases of
    convolutions and Gemm included. Other versions are not measured; TensorRT 10 makes the same check
    (https://github.com/NVIDIA/TensorRT/issues/3919).
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
            "a constant of an element-wise operator, without dimensions",
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
        Example(
            "a constant with dimensions: a warning",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.125}, int8 z = {0}, int8[2,1,1] c = {24, 16}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                offset = DequantizeLinear (c, s, z)
                y = Add (d, offset)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.125}, int8 z = {0}, float[2,1,1] offset = {3, 2}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                y = Add (d, offset)
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
            if pair.kind == "activation":
                continue
            found = list(_uses(graph, pair_readers(graph, pair)))
            bias = pair.kind == "bias" or (bool(found) and all(_bias(r) for r in found))
            operand = bool(found) and all(_bias(r) or _operand(r) for r in found)
            if not (bias or operand) or argument_readers(graph, pair_readers(graph, pair)):
                continue  # arguments: QDQ429
            values = dequantized_weights(graph, pair)
            fault = _fault(graph, pair)
            if values is None and not fault:
                continue  # nothing to do: TensorRT builds it
            what = "bias" if bias else "non-weight constant"
            exact = all(graph.is_reproducible(key(node)) for node in pair.dequantizes)
            yield self.finding(
                pair.nodes[0],
                f"the {what} '{pair.tensor}' is quantized to {pair.types[1].upper()}"
                + (fault or ", which saves nothing"),
                help="store the dequantized float values"
                + ("" if exact else "; the last bit of its computed values depends on the summation"),
                edits=store_floats(graph, pair),
                severity=None if fault else Severity.WARNING,
                safety=None if exact else Safety.LOSSY,
            )


def _fault(graph: Graph, pair: Pair) -> str:
    """Returns why TensorRT refuses the constant of a pair, as the end of a sentence; "" if it builds it."""
    if pair.types[1] not in BUILT or not pair.symmetric or pair.blocked:
        return "; TensorRT requires float"
    without = pair.quantize is None and graph.shape(pair.tensor) == ()
    return " and has no dimensions; TensorRT requires float" if without else ""


def _uses(graph: Graph, found: Sequence[Reader]) -> Iterator[Reader]:
    """Yields the inputs that compute with a constant, through Casts, shape changes, further pairs, and operators after
    which TensorRT still reads INT8 weights. Inputs whose result QDQ425 stores are left out."""
    pending, seen = [*reversed(found)], set[str]()
    while pending:
        reader = pending.pop()
        node, made = reader.node, key(reader.node)
        inner = not graph.outputs & {t.name for t in node.outputs}
        passes = reader.index == 0 and node.op in THROUGH
        if inner and (passes or (graph.is_constant(made) and _scales(graph, reader))):
            if made not in seen:
                pending += reversed([r for t in node.outputs for r in graph.readers(t.name)])
            seen.add(made)
        elif not (inner and graph.is_constant(made) and made in graph.once(_folding)):
            yield reader


def _scales(graph: Graph, reader: Reader) -> bool:
    """Returns whether the node multiplies the constant by one factor for each output channel, or by one factor."""
    node, mine = reader.node, graph.shape(input_name(reader.node, reader.index))
    if (
        node.op not in ("Mul", "Div")
        or (node.op == "Div" and reader.index)
        or len(node.inputs) != 2
        or reader.index < 0
    ):
        return False
    if pairs(graph).made(input_name(node, 1 - reader.index)) is not None or mine != graph.shape(key(node)):
        return False
    factor, rank = graph.shape(input_name(node, 1 - reader.index)), len(mine or ())
    if factor is None or len(factor) > rank:
        return False
    axes = {reader_axis(graph, r, rank) for r in graph.readers(key(node))}
    wide = {i + rank - len(factor) for i, size in enumerate(factor) if size != 1}
    return not wide or wide == axes


def _folding(graph: Graph) -> set[str]:
    """The constants for which QDQ425 stores everything that they are computed for, bit for bit; in one backward pass.

    What QDQ425 stores is found before, in file order: the value of a constant follows from those upstream of it.
    """
    computing = [node for node in graph.nodes() if node.op in WEIGHTED and not graph.is_constant(key(node))]
    operands = [Reader(node, index) for node in computing for index in range(len(node.inputs[:2]))]
    moved = {reader.key for reader in operands if fold_moved(graph, reader) is not None}
    found: set[str] = set()
    for node in reversed(graph.nodes()):
        readers = graph.readers(key(node)) if graph.is_constant(key(node)) else ()
        if readers and all(_folded(graph, r, found, moved) for r in readers):
            found.add(key(node))
    return found


def _folded(graph: Graph, reader: Reader, downstream: set[str], moved: set[NodeInput]) -> bool:
    node, made = reader.node, key(reader.node)
    pair = pairs(graph).of(node)
    if node.op == "QuantizeLinear" and pair is not None:
        return graph.is_reproducible(made) and fold_integers(graph, pair) is not None
    if node.op in WEIGHTED and not graph.is_constant(made):
        return reader.key in moved
    return reader.index >= 0 and made not in graph.outputs and made in downstream


def _bias(reader: Reader) -> bool:
    return reader.index == 2 and reader.node.op in WEIGHTED


def _operand(reader: Reader) -> bool:
    """Returns whether the input is not a weight: neither of a matrix product or convolution, nor a lookup table."""
    node, known = reader.node, (reader.node.domain or "") in ("", "ai.onnx")
    weight = (node.op in WEIGHTED and reader.index < 2) or node.op in TABLES
    return reader.index >= 0 and known and not weight
