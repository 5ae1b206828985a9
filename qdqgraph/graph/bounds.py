"""Bounds: the interval that contains every value of a tensor, known from the operators upstream without data.

A Sigmoid, a Softmax, a Tanh or a Clip bounds its result whatever its input is; data movement, pools and arithmetic pass
bounds on. The range of a Q/DQ pair is no source of bounds: it is what bounds are compared with.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..model.protos import is_standard
from ..operators import (
    AVERAGES,
    ELEMENTWISE,
    JOINS,
    NONNEGATIVE,
    PAIRS,
    RANGES,
    REDUCTIONS,
    SELECTS,
    VIEWS,
)
from .graph import Graph, input_name
from .moves import MOVING, move_of
from .pair import pairs

Interval = tuple[float, float]
"""The least and the greatest value, in the units of the tensor; infinite where unknown."""
UNKNOWN: Interval = (-math.inf, math.inf)
SAME = VIEWS | SELECTS
"""Operators whose result has values of their input alone."""
REDUCED = AVERAGES & REDUCTIONS
BOUNDING = RANGES.keys() | PAIRS | SAME | REDUCED | MOVING | ELEMENTWISE | {"Clip", "Cast"}
"""Operators whose results may have bounds."""


class Bounds:
    """The bounds of every tensor, found in one pass."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._found: dict[str, Interval] = {}
        for node in graph.nodes():
            if node.op in BOUNDING and is_standard(node):
                found = self._result(node)
                if found != UNKNOWN:
                    self._found.update((t.name, found) for t in node.outputs if t.name)

    def of(self, tensor: str) -> Interval:
        """The interval that contains all values of the tensor; (-inf, inf) if nothing is known."""
        if tensor in self._found:
            return self._found[tensor]
        value = self._graph.value(tensor)
        if value is None or value.size == 0 or value.dtype.kind not in "iuf" or np.any(np.isnan(value)):
            return UNKNOWN
        return float(value.min()), float(value.max())

    def _result(self, node: gs.Node) -> Interval:
        if node.op in RANGES:
            return RANGES[node.op]
        if node.op in PAIRS:
            return self._rounded(node)
        if node.op == "Clip":
            return self._clipped(node)
        if move_of(self._graph, node) is not None:
            moved = [self.of(t.name) for t in (node.inputs if node.op in JOINS else node.inputs[:1])]
            return _hull(*moved, *([(0.0, 0.0)] if node.op == "Pad" else []))
        if node.op in SAME:
            return self.of(node.inputs[0].name)
        if node.op in REDUCED:
            return _hull(self.of(node.inputs[0].name), (0.0, 0.0))  # padding may count as zeros
        if node.op == "Cast":
            return self._cast(node)
        found = _arithmetic(node.op, [self.of(t.name) for t in node.inputs]) if node.op in ELEMENTWISE else UNKNOWN
        return (max(found[0], 0.0), max(found[1], 0.0)) if node.op in NONNEGATIVE else found

    def _rounded(self, node: gs.Node) -> Interval:
        """The interval of a pair's input, rounded to the pair's steps."""
        pair = pairs(self._graph).of(node)
        if pair is None or not pair.tieable or pair.quantize is None:
            return UNKNOWN
        low, high = (
            v if math.isinf(v) else float(np.rint(v / pair.value)) * pair.value for v in self.of(node.inputs[0].name)
        )
        return low, high

    def _cast(self, node: gs.Node) -> Interval:
        if self._graph.dtype(node.inputs[0].name) == onnx.TensorProto.BOOL:
            return 0.0, 1.0
        return _hull(self.of(node.inputs[0].name), (0.0, 0.0))  # to an integer it truncates

    def _clipped(self, node: gs.Node) -> Interval:
        read, ends = self.of(node.inputs[0].name), []
        for index, name, free in ((1, "min", -math.inf), (2, "max", math.inf)):
            given = input_name(node, index)
            value = self._graph.value(given) if given else None
            ends.append(float(node.attrs.get(name, free)) if not given else _scalar(value, free))
        low, high = max(read[0], ends[0]), min(read[1], ends[1])
        return (low, high) if low <= high else UNKNOWN


def bounds(graph: Graph) -> Bounds:
    """The bounds of the graph's tensors, found once."""
    return graph.once(Bounds)


def _scalar(value: np.ndarray | None, default: float) -> float:
    return default if value is None or value.size != 1 else float(value.reshape(-1)[0])


def _hull(*intervals: Interval) -> Interval:
    return min(i[0] for i in intervals), max(i[1] for i in intervals)


def _arithmetic(op: str, read: list[Interval]) -> Interval:
    """The interval of an element-wise operator of its operands' intervals."""
    if op == "Where" and len(read) == 3:
        return _hull(*read[1:])
    if op == "Neg":
        return -read[0][1], -read[0][0]
    if op == "Abs":
        return 0.0, max(abs(read[0][0]), abs(read[0][1]))
    if op == "Relu":
        return read[0]
    if len(read) != 2:
        return UNKNOWN
    (a, b), (c, d) = read
    if op == "Add":
        return a + c, b + d
    if op == "Sub":
        return a - d, b - c
    if op == "Min":
        return min(a, c), min(b, d)
    if op == "Max":
        return max(a, c), max(b, d)
    if op == "Mul" or (op == "Div" and (c > 0 or d < 0)):
        by = (c, d) if op == "Mul" else (1 / d, 1 / c)
        products = [0.0 if 0.0 in (x, y) else x * y for x in (a, b) for y in by]
        return min(products), max(products)
    return UNKNOWN
