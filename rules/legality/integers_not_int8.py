"""QDQ402."""

from collections.abc import Iterator, Sequence

import numpy as np

from qdqgraph.rulekit import (
    FLOATS,
    WEIGHTED,
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Proposal,
    Rule,
    Safety,
    SetPair,
    Severity,
    argument_readers,
    channel_axis,
    int4_to_int8,
    is_locked,
    keep_exact,
    key,
    make_symmetric,
    numpy_type,
    pair_readers,
    pairs,
    refit,
    remove_pair,
    uint4_to_int4,
    uint8_to_int8,
    why_locked,
)

QUANTIZED = frozenset(
    {"int4", "uint4", "int8", "uint8", "int16", "uint16", "float4_e2m1fn"}
    | {f"float8_{form}" for form in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")}
)
"""Types that a QuantizeLinear produces."""
ACCEPTED = ("int8", "float8_e4m3fn", "float4_e2m1fn")
"""Types that TensorRT quantizes to, in addition to INT4 for weights."""


class IntegersNotInt8(Rule):
    """A Q/DQ pair quantizes to an integer type that TensorRT does not accept.

    Why: TensorRT's Q and DQ are INT8 (or FP8, or INT4 for weights). Since 8.5 the parser refuses UINT8, which
    pytorch-quantization writes for `unsigned=True` and onnxruntime by default. A QuantizeLinear without a zero-point
    means UINT8 in ONNX and INT8 in TensorRT: it builds, but computes other values. The file does not state which type
    was intended, so this repair is made on request only. UINT8 with zero-point 128 is bit for bit INT8 with zero-point
    0. Any other UINT8 keeps its range and loses resolution, one bit if the range has no negative values. A constant that
    no INT8 layer reads, such as an embedding, keeps its exact values as floats instead, of four times the size. 16-bit pairs
    are removed: they are finer than INT8, and TensorRT runs these tensors in floating point.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md,
    https://github.com/NVIDIA/TensorRT/blob/main/tools/pytorch-quantization/pytorch_quantization/tensor_quant.py
    """

    code, name, safety = "QDQ402", "integers-not-int8", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "UINT8 with zero-point 128: the same values as INT8 with zero-point 0",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, uint8 z = {128}, uint8[1,1,1,1] w = {192}, float sw = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, z)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "UINT8 with zero-point 0: the same range in INT8",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, uint8 z = {0}>
            {
                a = Relu (x)
                q = QuantizeLinear (a, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.20078741}, int8 z = {0}>
            {
                a = Relu (x)
                q = QuantizeLinear (a, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Example(
            "a UINT8 table that no INT8 layer reads: its exact float values",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (int64[2] ids) => (float[2,2] y)
            <uint8[2,2] table = {0, 200, 100, 255}, float s = {0.5}, uint8 z = {100}>
            {
                d = DequantizeLinear (table, s, z)
                y = Gather (d, ids)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (int64[2] ids) => (float[2,2] y)
            <float[2,2] d = {-50, 50, 0, 77.5}>
            {
                y = Gather (d, ids)
            }""",
        ),
        Example(
            "an INT16 pair",
            before="""
            <ir_version: 10, opset_import: ["" : 21]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.001}, int16 z = {0}>
            {
                a = Relu (x)
                q = QuantizeLinear (a, s, z)
                d = DequantizeLinear (q, s, z)
                y = Sigmoid (d)
            }""",
            after="""
            <ir_version: 10, opset_import: ["" : 21]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            {
                a = Relu (x)
                y = Sigmoid (a)
            }""",
        ),
        Example(
            "no zero-point: repaired on request",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}>
            {
                q = QuantizeLinear (x, s)
                y = DequantizeLinear (q, s)
            }""",
        ),
        Counterexample(
            "an INT8 pair",
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
        for pair in pairs(graph):
            if argument_readers(graph, pair_readers(graph, pair)):
                continue  # QDQ429
            if (pair.quantize and pair.types[1] not in QUANTIZED) or _stored_otherwise(graph, pair):
                continue  # QDQ424 reports it
            if pair.zero_point is not None and str(pair.zero_point.dtype) in ("int4", "uint4"):
                yield from self._four_bits(graph, pair)
            elif pair.kind == "bias":
                continue  # QDQ406
            elif pair.zero_point is not None and str(pair.zero_point.dtype) not in ACCEPTED:
                yield self._refused(graph, pair)
            elif pair.zero_point is not None and (others := _multiplied_by(graph, pair) - {pair.types[1]}):
                fitted = refit(graph, pair, channel_axis(graph, pair)) if "int8" in others else None
                yield self.finding(
                    pair.nodes[0],
                    _unequal(pair, others),
                    help="requantize the weights to INT8" if fitted else "quantize both operands to one type",
                    edits=[fitted] if fitted else (),
                )
            elif pair.zero_point is None and pair.quantize is not None and len(pair.quantize.inputs) < 3:
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is quantized without a zero-point: UINT8 in ONNX, INT8 in TensorRT",
                    help="if INT8 is intended, add an INT8 zero-point of 0; on request",
                    severity=Severity.WARNING,
                    edits=_as_int8(pair),
                    safety=Safety.MANUAL,
                )

    def _four_bits(self, graph: Graph, pair: Pair) -> Iterator[Finding]:
        """Yields the finding about 4-bit weights that are unsigned, or multiplied by INT8."""
        others = set() if pair.blocked else _multiplied_by(graph, pair) & {"int8", "uint8"}
        if not others and pair.types[1] == "int4":
            return
        edits: Sequence[Proposal] = ()
        exact = True
        if not others and (shift := uint4_to_int4(graph, pair)):
            help, edits = "convert to INT4 with the same values", [shift]
        elif wide := int4_to_int8(graph, pair):
            help, edits = "convert to INT8 with the same values", [wide]
        elif edits := remove_pair(graph, pair):
            exact = pair.quantize is None
            help = "store the dequantized float values" if exact else "leave it in floating point"
        else:
            help = "quantize symmetrically to INT4"
        yield self.finding(
            pair.nodes[0],
            _unequal(pair, others) if others else f"'{pair.tensor}' is quantized to UINT4; TensorRT accepts INT4",
            help=help,
            edits=edits,
            safety=Safety.EXACT if edits and exact else None,
        )

    def _refused(self, graph: Graph, pair: Pair) -> Finding:
        assert pair.zero_point is not None
        name = str(pair.zero_point.dtype).upper()
        what = f"'{pair.tensor}' is quantized to {name}; TensorRT accepts INT8"
        if pair.types[1] != "uint8":
            edits = remove_pair(graph, pair)
            help = (
                "leave it in floating point"
                if edits
                else why_locked(graph, pair) or "quantize to signed 8-bit integers"
            )
            return self.finding(pair.nodes[0], what, help=help, edits=edits)
        if (shift := uint8_to_int8(graph, pair)) is not None:
            help = "convert to INT8 with the same values"
            return self.finding(pair.nodes[0], what, help=help, edits=[shift], safety=Safety.EXACT)
        edit, lost = make_symmetric(graph, pair) or (None, 0.0)
        if edit is None:
            return self.finding(
                pair.nodes[0], what, help=why_locked(graph, pair) or "quantize to signed 8-bit integers"
            )
        if floats := keep_exact(graph, pair, edit):
            exact = graph.is_reproducible(key(pair.dequantizes[0]))
            return self.finding(
                pair.nodes[0], what, help=FLOATS, edits=floats, safety=Safety.EXACT if exact else Safety.LOSSY
            )
        return self.finding(
            pair.nodes[0], what, help="quantize to INT8 with the same range", bits_lost=lost, edits=[edit]
        )


def _stored_otherwise(graph: Graph, pair: Pair) -> bool:
    """Returns whether the file stores the integers in another type than the zero-point has."""
    kind = graph.dtype(pair.tensor) if pair.quantize is None and pair.zero_point is not None else None
    return kind is not None and str(numpy_type(kind)) != pair.types[1]


def _as_int8(pair: Pair) -> list[SetPair]:
    if pair.scale is None or is_locked(pair):
        return []
    zero_point = np.zeros(pair.scale.shape, np.int8)
    return [SetPair(tuple(key(n) for n in pair.nodes), Constant.of(pair.scale), Constant.of(zero_point), pair.axis)]


def _unequal(pair: Pair, others: set[str]) -> str:
    ours, theirs = pair.types[1].upper(), ", ".join(sorted(others)).upper()
    return f"'{pair.tensor}' is quantized to {ours} and multiplied by {theirs}; TensorRT requires operands of one type"


def _multiplied_by(graph: Graph, pair: Pair) -> set[str]:
    """Returns the integer types that weights are multiplied by."""
    found = set()
    for reader in pair_readers(graph, pair) if pair.kind == "weight" else ():
        if reader.node.op in WEIGHTED and reader.index in (0, 1):
            other = pairs(graph).made(reader.node.inputs[1 - reader.index].name)
            found |= {other.types[1]} if other is not None and other.zero_point is not None else set()
    return found
