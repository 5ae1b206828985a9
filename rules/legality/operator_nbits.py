"""QDQ418."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from qdqgraph.rulekit import (
    INT4,
    Counterexample,
    Example,
    Finding,
    Graph,
    Node,
    Rule,
    Safety,
    Severity,
    input_name,
    key,
    make_constant,
    make_node,
    replace,
)


class OperatorNbits(Rule):
    """A matrix product unpacks its own weights: onnxruntime's MatMulNBits.

    Why: TensorRT accepts 4-bit weights as INT4 with a blocked DequantizeLinear. Of the versions that support
    MatMulNBits, TensorRT-RTX 1.7.1 accepts only blocks of 32, 64 and 128. The repair converts 4-bit weights with
    zero-point 8 to this format, with the same integers and scales. Weights with another zero-point, negative scales or
    8 bits are stored as dequantized floats. In both cases the product runs in floating point, as before.
    Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits,
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ418", "operator-nbits", Safety.LOSSY
    severity = Severity.ERROR
    quantized, opset = ("MatMulNBits",), 21

    examples = [
        Example(
            "8-bit weights in one block",
            before="""
            <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
            g (float[1,16] x) => (float[1,1] y)
            <uint8[1,1,16] w = {127, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143}, float[1] s = {0.5}>
            {
                y = com.microsoft.MatMulNBits <K = 16, N = 1, bits = 8, block_size = 16> (x, w, s)
            }""",
            after="""
            <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
            g (float[1,16] x) => (float[1,1] y)
            <float[16,1] k = {-0.5, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5}>
            {
                y = MatMul (x, k)
            }""",
        ),
        Example(
            "weights that are not constant",
            before="""
            <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
            g (float[1,16] x, uint8[1,1,16] w) => (float[1,1] y)
            <float[1] s = {0.5}>
            {
                y = com.microsoft.MatMulNBits <K = 16, N = 1, bits = 8, block_size = 16> (x, w, s)
            }""",
        ),
        Counterexample(
            "a product whose weights have a DequantizeLinear",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,2] y)
            <int8[2,2] w = {64, 32, 16, 8}, int8 zw = {0}, float sw = {0.01}>
            {
                k = DequantizeLinear (w, sw, zw)
                y = MatMul (x, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes():
            if node.op != "MatMulNBits" or node.domain != "com.microsoft":
                continue
            made = _weights(graph, node) if graph.opset >= BLOCKS else None
            help = "store its weights as blocked INT4 with a DequantizeLinear, or as floats" if made else ADVICE
            if graph.opset < BLOCKS:
                help = f"raise the opset to {BLOCKS} (`fix` does)"
            nodes = [] if made is None else [*made, *_product(node)]
            yield self.finding(
                node, f"TensorRT has no {node.op}", help=help, edits=[replace([node], nodes)] if nodes else ()
            )


BLOCKS = 21
"""The first opset with blocked Q/DQ."""
ADVICE = (
    "store its weights as blocked INT4: weights, scales or zero-points are not constant, or their layout is unknown"
)


def _product(node: Node) -> list[Any]:
    name, bias = key(node), input_name(node, 5)
    product = f"{name}_product" if bias else name
    nodes = [make_node("MatMul", [input_name(node, 0), f"{name}_weights"], product)]
    return [*nodes, make_node("Add", [product, bias], name)] if bias else nodes


def _weights(graph: Graph, node: Node) -> list[Any] | None:
    """Returns the nodes that produce the float weights, shape [K, N]; None if not constant or of unknown layout."""
    bits, block = int(node.attrs.get("bits", 4)), int(node.attrs.get("block_size", 0))
    rows, columns = int(node.attrs.get("K", 0)), int(node.attrs.get("N", 0))
    packed, scale = graph.array(input_name(node, 1)), graph.array(input_name(node, 2))
    if packed is None or scale is None or bits not in (4, 8) or input_name(node, 4) or min(block, rows, columns) <= 0:
        return None
    blocks = -(-rows // block)
    given = graph.array(input_name(node, 3)) if input_name(node, 3) else np.zeros(0, np.uint8)
    if given is None or packed.dtype != np.uint8 or packed.size * 8 != columns * blocks * block * bits:
        return None
    zero = np.full((columns, blocks), 1 << (bits - 1), np.float32)
    if given.size:
        each = _unpacked(given.reshape(columns, -1), bits) if given.dtype == np.uint8 else given.reshape(columns, -1)
        zero = each[:, :blocks].astype(np.float32)
    if scale.size != zero.size or zero.shape != (columns, blocks):
        return None
    integers = _unpacked(packed.reshape(columns, -1), bits)[:, :rows].T
    scales, name = np.ascontiguousarray(scale.reshape(columns, blocks).T), key(node)
    if bits == 4 and (zero == 8).all() and (scales > 0).all():
        parameters = [f"{name}_integers", f"{name}_scale", f"{name}_zero_point"]
        arrays = [(integers.astype(np.int8) - 8).astype(INT4), scales, np.zeros(scales.shape, INT4)]
        read = make_node("DequantizeLinear", parameters, f"{name}_weights", axis=0, block_size=block)
        return [*(make_constant(n, a) for n, a in zip(parameters, arrays, strict=True)), read]
    steps = integers.astype(np.float32) - np.repeat(zero.T, block, 0)[:rows]
    reals = steps * np.repeat(scales.astype(np.float32), block, 0)[:rows]
    return [make_constant(f"{name}_weights", reals.astype(scale.dtype))]


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Returns the 4- or 8-bit values packed in rows of bytes, the low nibble first."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], -1).reshape(packed.shape[0], -1)
