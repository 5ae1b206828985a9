"""QDQ412."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Pair,
    Quantization,
    Rewire,
    Rule,
    Safety,
    Severity,
    attributes,
    key,
    make_constant,
    make_node,
    pairs,
    replace,
)


class ClipInsidePair(Rule):
    """A Clip separates QuantizeLinear from DequantizeLinear: a narrow range, or fewer than eight bits.

    Why: TensorRT fuses Q→DQ only if nothing separates them, and refuses quantized constants that any operator except
    DequantizeLinear reads. Brevitas writes such Clips. Weights are stored as the clipped integers. A Clip that excludes
    only -128 is removed: TensorRT's INT8 includes -128, so values below the range may end one step lower. Any other
    Clip moves before the QuantizeLinear, with the same limits as float values.
    Source: https://github.com/Xilinx/brevitas/blob/master/src/brevitas/export/onnx/standard/qcdq/manager.py,
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ412", "clip-inside-pair", Safety.EXACT
    severity = Severity.ERROR

    examples = [
        Example(
            "weights with a narrow range",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, float[1,1,1,1] w = {0.64}, float sw = {0.01}, int8 lo = {-127}, int8 hi = {127}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                i = QuantizeLinear (w, sw, z)
                c = Clip (i, lo, hi)
                k = DequantizeLinear (c, sw, z)
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
            "a 4-bit activation",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, int8 lo = {-8}, int8 hi = {7}>
            {
                a = Relu (x)
                q = QuantizeLinear (a, s, z)
                c = Clip (q, lo, hi)
                y = DequantizeLinear (c, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.125}, int8 z = {0}, float lo = {-1}, float hi = {0.875}>
            {
                a = Relu (x)
                b = Clip (a, lo, hi)
                q = QuantizeLinear (b, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "a Clip of float values",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}, float lo = {0}, float hi = {6}>
            {
                a = Clip (x, lo, hi)
                q = QuantizeLinear (a, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for clip in graph.nodes("Clip"):
            integers = clip.inputs[0].name
            quantize = graph.producer(integers)
            stored = graph.array(integers)
            if quantize is not None and quantize.op != "QuantizeLinear":
                quantize = None
            if quantize is None and (stored is None or stored.dtype not in (np.int8, np.uint8)):
                continue
            readers = graph.readers(key(clip))
            if not readers or any(r.node.op != "DequantizeLinear" or r.index != 0 for r in readers):
                continue
            bounds = _bounds(graph, clip)
            pair = pairs(graph).of(quantize) if quantize is not None else None
            edit, safety = (None, Safety.EXACT) if bounds is None else _repair(graph, clip, pair, stored, *bounds)
            yield self.finding(
                clip,
                f"a Clip separates the Q from the DQ of '{integers if pair is None else pair.tensor}'",
                help="remove the Clip or move it before the Q" if edit else "export the model without this Clip",
                edits=() if edit is None else edit,
                safety=safety,
            )


def _bounds(graph: Graph, clip: Node) -> tuple[int, int] | None:
    """Returns the smallest and the largest integer that the Clip passes; None if a limit is not constant, or empty."""
    limits = []
    for index, default in ((1, -(2**31)), (2, 2**31)):
        name = clip.inputs[index].name if index < len(clip.inputs) else ""
        value = graph.value(name) if name else np.asarray(default)
        if value is None or value.size != 1:
            return None
        limits.append(int(value.reshape(-1)[0]))
    return limits[0], limits[1]


def _repair(
    graph: Graph, clip: Node, pair: Pair | None, stored: np.ndarray | None, low: int, high: int
) -> tuple[list[Graft | Rewire] | None, Safety]:
    quantization = Quantization.of(pair) if pair is not None else None
    weights = graph.array(pair.tensor) if pair is not None else None
    if weights is not None and quantization is not None and quantization.fits(weights):
        stored = quantization.quantize(weights)
    if stored is not None:
        clipped = np.clip(stored.astype(np.int64), low, high).astype(stored.dtype)
        return [replace([clip], [make_constant(key(clip), clipped)])], Safety.EXACT
    if quantization is None or pair is None or pair.quantize is None:
        return None, Safety.EXACT
    through = [Rewire(r.key, key(pair.quantize)) for r in graph.readers(key(clip))]
    least, greatest = np.iinfo(quantization.zero_point.dtype).min, np.iinfo(quantization.zero_point.dtype).max
    if low <= least and high >= greatest:
        return list(through), Safety.EXACT
    if (low, high) == (least + 1, greatest) and least < 0:
        return list(through), Safety.LOSSY
    sole = len(graph.readers(key(pair.quantize))) == 1 and key(pair.quantize) not in graph.outputs
    if quantization.scale.size > 1 or not sole or graph.opset < 11:
        return None, Safety.EXACT
    name = key(clip)
    limits = [quantization.dequantize(np.asarray(limit)) for limit in (low, high)]
    nodes = [make_constant(f"{name}_{end}", limit) for end, limit in zip(("low", "high"), limits, strict=True)]
    nodes += [
        make_node("Clip", [pair.tensor, f"{name}_low", f"{name}_high"], f"{name}_real"),
        make_node(
            "QuantizeLinear",
            [f"{name}_real", *(t.name for t in pair.quantize.inputs[1:])],
            name,
            attributes(graph, pair.quantize),
        ),
    ]
    return [replace([pair.quantize, clip], nodes)], Safety.EXACT
