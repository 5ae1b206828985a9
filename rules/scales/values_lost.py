"""QDQ106."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    INT8_BOUND,
    Constant,
    Counterexample,
    Example,
    Finding,
    Graph,
    Pair,
    Rule,
    Safety,
    SetPair,
    bits_lost,
    bounds,
    key,
    move_at,
    move_of,
    pairs,
    scale_from_amax,
    sites,
)

MOST = 3.0
"""Bits that may be lost before it is a finding. One is what a tie may cost by default, another is what rounding to a
power of two costs, and one is left."""


class ValuesLost(Rule):
    """The scale of a pair is far above the range that the operators upstream allow.

    Why: A Sigmoid or Softmax produces values in [0, 1], a Tanh in [-1, 1], a Clip within its limits, whatever the data
    is. If such values share a scale with larger ones, as the scores and the boxes of a detector after a Concat do, few
    INT8 steps are left for them, or none: every score becomes 0. The engine builds, and the network finds nothing. A
    pair of its own gets the scale of its range, which cannot clip. The outputs then change by as much as the old scale
    distorted them: if the values were lost, by far more than a rounding.
    When not: Where a Concat or another data-movement op joins the values with others, a smaller scale would clip these.
    Such a pair is reported and kept: join the values after the network, or leave the Concat in float.
    Source: https://github.com/microsoft/onnxruntime/issues/14233,
    https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
    """

    code, name, safety = "QDQ106", "values-lost", Safety.LOSSY

    examples = [
        Example(
            "a Sigmoid whose pair has the scale of a range sixteen times as large",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.125}, int8 z = {0}>
                {
                    a = Sigmoid (x)
                    q = QuantizeLinear (a, s, z)
                    y = DequantizeLinear (q, s, z)
                }""",
            after="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,1,4,4] x) => (float[1,1,4,4] y)
                <float s = {0.007874016}, int8 z = {0}>
                {
                    a = Sigmoid (x)
                    q = QuantizeLinear (a, s, z)
                    y = DequantizeLinear (q, s, z)
                }""",
        ),
        Example(
            "scores joined with boxes in pixels: every score becomes 0",
            before="""
                <ir_version: 8, opset_import: ["" : 17]>
                g (float[1,4,8] box, float[1,2,8] logit) => (float[1,6,8] y)
                <float s = {5.04}, int8 z = {0}>
                {
                    score = Sigmoid (logit)
                    c = Concat <axis = 1> (box, score)
                    q = QuantizeLinear (c, s, z)
                    y = DequantizeLinear (q, s, z)
                }""",
        ),
        Counterexample(
            "the scale of the range, and the range of 8-bit steps without a sign",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] v)
            <float s = {0.0078740}, float t = {0.0039216}, int8 z = {0}, uint8 u = {0}>
            {
                a = Sigmoid (x)
                q = QuantizeLinear (a, s, z)
                y = DequantizeLinear (q, s, z)
                b = Softmax (x)
                r = QuantizeLinear (b, t, u)
                v = DequantizeLinear (r, t, u)
            }""",
        ),
        Counterexample(
            "the range of a Clip, with a scale that is a power of two",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.0625}, int8 z = {0}, float low = {0}, float high = {6}>
            {
                a = Clip (x, low, high)
                q = QuantizeLinear (a, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "a sum with an unbounded tensor",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {5.04}, int8 z = {0}>
            {
                a = Sigmoid (x)
                b = Add (a, x)
                q = QuantizeLinear (b, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if not pair.tieable or pair.quantize is None:
                continue
            nearest = min(_amax(graph, pair.tensor), graph.once(_least).get(pairs(graph).root(pair.tensor), np.inf))
            if not _loses(nearest, pair):
                continue
            lost = [(part, limit) for part in _parts(graph, pair.tensor) if (limit := _lost(graph, part, pair))]
            if not lost:
                continue
            own = len(lost) == 1 and lost[0][0] == pair.tensor and _free(graph, pair)
            yield self.finding(
                pair.nodes[0],
                "; ".join(_says(graph, part, pair) for part, _ in lost),
                help="set the scale of its range, " + f"{scale_from_amax(lost[0][1]):.4g}"
                if own
                else "keep these values out of the tensor that the pair quantizes, or leave that tensor in float",
                edits=[_narrowed(pair, lost[0][1])] if own else [],
            )


def _parts(graph: Graph, tensor: str) -> list[str]:
    """Returns the tensors that data-movement ops join to this one; the tensor itself if no Concat does."""
    found: dict[str, None] = {}
    pending, seen = [(tensor, tensor)], set[str]()
    while pending:
        name, part = pending.pop()
        name = pairs(graph).root(name)
        node = graph.producer(name)
        move = None if node is None else move_of(graph, node)
        if name in seen:
            continue
        seen.add(name)
        if move is None:
            found[name if part != tensor else tensor] = None
        else:
            pending += [(source, part if len(move[0]) == 1 else source) for source in move[0]]
    return list(found)


def _least(graph: Graph) -> dict[str, float]:
    """Returns the smallest known magnitude among the tensors that data-movement ops join, for each output of one."""
    found: dict[str, float] = {}
    for node in graph.nodes():
        move = move_of(graph, node)
        if move is not None:
            roots = [pairs(graph).root(name) for name in move[0]]
            found.update(dict.fromkeys(move[1], min(found.get(n) or _amax(graph, n) for n in roots)))
    return found


def _amax(graph: Graph, tensor: str) -> float:
    """Returns the largest magnitude of a tensor's values; infinite if it is unknown or 0."""
    low, high = bounds(graph).of(tensor)
    amax = max(abs(low), abs(high))
    return amax if amax > 0 else np.inf


def _loses(amax: float, pair: Pair) -> bool:
    """Returns whether a pair loses more than `MOST` bits of values of this magnitude."""
    return amax < np.inf and bits_lost(pair.value, scale_from_amax(amax)) > MOST


def _lost(graph: Graph, part: str, pair: Pair) -> float:
    """Returns the largest magnitude of the values if more than `MOST` bits of them are lost; else 0."""
    amax = _amax(graph, part)
    return amax if _loses(amax, pair) else 0.0


def _says(graph: Graph, part: str, pair: Pair) -> str:
    low, high = bounds(graph).of(part)
    steps = int(np.rint(max(abs(low), abs(high)) / pair.value))
    left = f"has {steps} of {INT8_BOUND} steps" if steps else "becomes 0 everywhere"
    return f"'{part}' is within [{low:.4g}, {high:.4g}] and {left} with the scale {pair.value:.4g}"


def _free(graph: Graph, pair: Pair) -> bool:
    """Returns whether nothing but the pair depends on its scale: it is the only one, and no data movement is around."""
    producer = graph.producer(pair.tensor)
    uses = [u for u in sites(graph).uses(pair.site) if u.pair is pair]
    moved = any(move_at(graph, use.reader) is not None for use in uses)
    alone = len(pairs(graph).at(pair.site)) == 1 and pair.tensor == pair.site and not pair.pinned
    return alone and not moved and (producer is None or move_of(graph, producer) is None)


def _narrowed(pair: Pair, amax: float) -> SetPair:
    assert pair.scale is not None
    scale = np.full(pair.scale.shape, scale_from_amax(amax)).astype(pair.scale.dtype)
    zero_point = np.zeros((), pair.types[1])
    return SetPair(tuple(key(node) for node in pair.nodes), Constant.of(scale), Constant.of(zero_point))
