"""QDQ402."""

from collections.abc import Iterator

import numpy as np

from qdqgraph import (
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Rule,
    Safety,
    SetPair,
    Severity,
    around_zero,
    fixed,
    key,
    obstacle,
    pairs,
    shifted,
    symmetric,
    unpaired,
)


class IntegersNotInt8(Rule):
    """A pair quantizes to integers that TensorRT does not take.

    Why: Q and DQ of TensorRT are INT8 (or FP8, or INT4 for weights); UINT8, which pytorch-quantization writes for
    `unsigned=True` and onnxruntime by default, is refused by the parser since 8.5. A QuantizeLinear without a
    zero-point means UINT8 in ONNX and INT8 in TensorRT: it builds, and computes something else; which of the two was
    meant the file does not say, so that repair waits for a request. UINT8 around 128 is INT8 around 0, to the bit. Any
    other UINT8 keeps its range and gets coarser, by one bit where it was never negative. 16-bit pairs go: what they
    round is finer than INT8, and TensorRT runs it in floating point.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md,
    https://github.com/NVIDIA/TensorRT/blob/main/tools/pytorch-quantization/pytorch_quantization/tensor_quant.py
    """

    code, name, safety = "QDQ402", "integers-not-int8", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "UINT8 around 128: the same numbers as INT8 around 0",
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
            "UINT8 from 0: the same range in INT8",
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
            "INT16",
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
            "INT8",
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
            if pair.zero_point is not None and str(pair.zero_point.dtype) == "uint4":
                shift = around_zero(graph, pair)
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is quantized to UINT4; TensorRT takes INT4",
                    help="the same numbers in INT4" if shift else "quantize to INT4 around zero",
                    edits=[shift] if shift else (),
                    safety=Safety.EXACT if shift else None,
                )
            elif pair.zero_point is not None and pair.zero_point.dtype in (np.uint8, np.int16, np.uint16):
                yield self._refused(graph, pair)
            elif pair.zero_point is None and pair.quantize is not None and len(pair.quantize.inputs) < 3:
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is quantized without a zero-point: UINT8 for ONNX, INT8 for TensorRT",
                    help="write an INT8 zero-point of 0, if INT8 is meant; on request",
                    severity=Severity.WARNING,
                    edits=_as_int8(pair),
                    safety=Safety.MANUAL,
                )

    def _refused(self, graph: Graph, pair: Pair) -> Finding:
        assert pair.zero_point is not None
        name = str(pair.zero_point.dtype).upper()
        what = f"'{pair.tensor}' is quantized to {name}; TensorRT takes INT8"
        if pair.zero_point.dtype != np.uint8:
            edits = unpaired(graph, pair)
            help = (
                "leave it in floating point" if edits else obstacle(graph, pair) or "quantize to signed 8-bit integers"
            )
            return self.finding(pair.nodes[0], what, help=help, edits=edits)
        if (shift := shifted(graph, pair)) is not None:
            help = "the same numbers in INT8"
            return self.finding(pair.nodes[0], what, help=help, edits=[shift], safety=Safety.EXACT)
        edit, lost = symmetric(graph, pair) or (None, 0.0)
        if edit is None:
            return self.finding(pair.nodes[0], what, help=obstacle(graph, pair) or "quantize to signed 8-bit integers")
        return self.finding(pair.nodes[0], what, help=f"the same range in INT8, {lost:.2f} bits coarser", edits=[edit])


def _as_int8(pair: Pair) -> list[SetPair]:
    if pair.scale is None or fixed(pair):
        return []
    zero_point = np.zeros(pair.scale.shape, np.int8)
    return [SetPair(tuple(key(n) for n in pair.nodes), Constant.of(pair.scale), Constant.of(zero_point), pair.axis)]
