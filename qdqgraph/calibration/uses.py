"""What the consumers of an input read it as: indexes, a mask, lengths, positions, a shape, integers of a pair.

The walk follows a value through operators that move, cast, shift or scale it, and through comparisons with constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from onnx import TensorProto

from ..graph.graph import Graph, Node, Reader, input_name, key
from ..graph.moves import move_at
from ..graph.pair import is_pair
from ..model.protos import is_standard
from ..operators import ARGUMENTS, INDEXES, LINEAR, RECURRENT, RESHAPES, SAME_CONSTANT, SATURATES, WEIGHTED
from .arguments import argument

BYTES = (TensorProto.INT8, TensorProto.UINT8)
Kind = Literal["index", "mask", "length", "position", "argument", "divisor", "integers", "numbers"]
MASKED = -1000.0
"""A constant below this, selected by a mask or multiplied with it, removes what it is added to."""
FOREIGN: Mapping[tuple[str, int], tuple[Kind, int]] = {
    ("EmbedLayerNormalization", 0): ("index", 2),
    ("EmbedLayerNormalization", 1): ("index", 4),
    ("GatherBlockQuantized", 1): ("index", 0),
    ("RotaryEmbedding", 1): ("position", 0),
}
"""(Operator, input) of onnxruntime's own domain → what it reads there, and the input with the table, axis 0.
Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md"""
COMPARES: Mapping[str, Callable[[float, float], bool]] = {
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
}


@dataclass(frozen=True)
class Use:
    """What one consumer reads an input as.

    Attributes:
        kind: index: a row or class; mask: 1 to keep, or 0 to keep; length: a number of elements; position: the index of
            an element as a number; argument: a shape, an axis, a count; divisor: what
            data are divided by; integers: those of a pair or of an integer
            operator; numbers: what a convolution or matrix product multiplies.
        low, high: the least and the largest index; the value of a mask that keeps everything; the full length.
        values: for an argument, values that run, as many as the input has; empty if unknown.
        sure: for a mask, whether its other value removes what it is applied to.
    """

    kind: Kind
    low: float = 0
    high: float = 0
    values: tuple[float, ...] = ()
    sure: bool = False


@dataclass(frozen=True)
class _Value:
    """A tensor computed from the input x: `scale`·x + an offset; for a condition, 0 or 1 if x is 0 or 1.

    Attributes:
        tensor: its name.
        scale, low, high: factor, least and largest offset.
        start: where the input's elements begin in it, for one-dimensional tensors.
    """

    tensor: str
    scale: float = 1
    low: float = 0
    high: float = 0
    start: int = 0

    def at(self, x: float) -> float:
        """Returns the value for an input of x."""
        return self.scale * x + self.low


def uses(graph: Graph, tensor: str) -> tuple[Use, ...]:
    """Returns what the consumers of an input read it as; the shapes of `graph` must be known (see `sizes.sized`)."""
    found: dict[Use, None] = {}
    pending, seen = [_Value(tensor)], set[_Value]()
    while pending:
        value = pending.pop(0)
        if value in seen or len(seen) > 1000:
            continue
        seen.add(value)
        for reader in graph.readers(value.tensor):
            if reader.index < 0:
                continue
            for result in _read(graph, tensor, value, reader):
                if isinstance(result, Use):
                    found[result] = None
                else:
                    pending.append(result)
    return tuple(found)


def _read(graph: Graph, tensor: str, value: _Value, reader: Reader) -> Iterator[Use | _Value]:
    """Yields what one input reads the value as, and the values that its node computes from it."""
    node, index, op = reader.node, reader.index, str(reader.node.op)
    if (op, index) in FOREIGN and not is_standard(node):
        kind, table = FOREIGN[op, index]
        yield _index(graph, value, input_name(node, table), 0) if kind == "index" else Use(kind)
    elif is_pair(node):
        stored = op == "DequantizeLinear" and graph.dtype(tensor) in BYTES
        yield Use("integers") if stored else replace(value, tensor=key(node))
    elif not is_standard(node):
        return
    elif index in INDEXES.get(op, ()):
        yield from _indexed(graph, value, node)
    elif index in ARGUMENTS.get(op, ()):
        yield Use("argument", values=argument(graph, node, index, graph.elements(tensor) or 1, value.start))
    elif (op in RECURRENT and index == 4) or (op == "ReverseSequence" and index == 1):
        dims = graph.shape(input_name(node, 0)) or (1,)
        yield Use("length", high=dims[int(node.attrs.get("time_axis", node.attrs.get("layout", 0)))] or 1)
    elif op in COMPARES:
        yield from _compared(graph, value, node, index)
    elif op == "Not":
        yield replace(value, tensor=key(node), scale=-value.scale, low=1 - value.low, high=1 - value.high)
    elif op == "Where" and index == 0:
        yield _selected(graph, value, node)
    elif op == "Div" and index == 1:
        yield Use("divisor")
    elif op in LINEAR:
        yield from _computed(graph, value, node, index)
    elif (op == "CumSum" or op.startswith("Reduce")) and index == 0:
        yield Use("mask", 1)
    elif op in ("Sin", "Cos"):
        yield Use("position")
    elif op in WEIGHTED or op == "Einsum" or op.endswith("Integer"):
        waves = op not in ("Conv", "ConvTranspose") and _reaches_waves(graph, node)
        yield Use("position" if waves else "integers" if op.endswith("Integer") else "numbers")
    elif op == "Concat":
        yield replace(value, tensor=key(node), start=value.start + _before(graph, node, index))
    elif _passes(graph, reader):
        yield from (replace(value, tensor=str(t.name)) for t in node.outputs if t.name)


def _passes(graph: Graph, reader: Reader) -> bool:
    """Returns whether the value at this input is what the node gives on."""
    op = str(reader.node.op)
    moved = move_at(graph, reader) is not None or (reader.index == 0 and op in RESHAPES | SAME_CONSTANT | {"Tile"})
    selected = reader.index == 0 and op in INDEXES and op != "OneHot"
    return moved or selected or op in SATURATES or op in ("Mod", "Where") or op in ("And", "Or")


def _index(graph: Graph, value: _Value, table: str, axis: int) -> Use:
    dims = graph.shape(table)
    rows = dims[axis] if dims is not None and -len(dims) <= axis < len(dims) else None
    return _within(value, rows or 1)


def _within(value: _Value, rows: int) -> Use:
    """Returns the range of inputs for which the value is an index below `rows`."""
    if value.scale == 0:
        return Use("index", 0, 0)
    ends = sorted([-value.low / value.scale, (rows - 1 - value.high) / value.scale])
    return Use("index", math.ceil(ends[0]), math.floor(ends[1]))


def _indexed(graph: Graph, value: _Value, node: Node) -> Iterator[Use]:
    op, table = str(node.op), input_name(node, 0)
    if op == "OneHot":
        depth = graph.value(input_name(node, 1))
        known = depth is not None and depth.size == 1 and bool(np.isfinite(depth).all())
        yield _within(value, int(depth.reshape(-1)[0]) if depth is not None and known else 2)
    elif op in ("GatherND", "ScatterND"):
        width = (graph.shape(input_name(node, 1)) or (1,))[-1] or 1
        dims = graph.shape(table) or (1,)
        first = int(node.attrs.get("batch_dims", 0))
        yield from (_within(value, size or 1) for size in dims[first : first + width])
    else:
        yield _index(graph, value, table, int(node.attrs.get("axis", 0)))


def _compared(graph: Graph, value: _Value, node: Node, index: int) -> Iterator[Use | _Value]:
    """Yields the condition that a comparison with a constant is; lengths, where indexes are compared with them."""
    other = input_name(node, 1 - index)
    counted = _counts(graph, other)
    if counted:
        yield Use("length", high=counted)
        return
    constant = graph.value(other)
    if constant is None or constant.size != 1:
        return
    compare, limit = COMPARES[str(node.op)], float(constant.reshape(()))
    zero, one = (compare(*((v, limit) if index == 0 else (limit, v))) for v in (value.at(0), value.at(1)))
    if zero != one:
        yield replace(value, tensor=key(node), scale=float(one) - zero, low=zero, high=zero)


def _counts(graph: Graph, tensor: str) -> int:
    """Returns n if a tensor is 0, 1, …, n − 1 in some shape: a Range or a constant; else 0."""
    node = graph.producer(tensor)
    while node is not None and node.op in RESHAPES | SAME_CONSTANT | {"Expand"} and node.op != "Constant":
        tensor = input_name(node, 0)
        node = graph.producer(tensor)
    if node is not None and node.op == "Range":
        dims = graph.shape(tensor)
        return (dims[0] or 0) if dims else 0
    array = graph.value(tensor)
    flat = None if array is None else array.reshape(-1)
    return flat.size if flat is not None and flat.size > 2 and np.array_equal(flat, np.arange(flat.size)) else 0


def _selected(graph: Graph, value: _Value, node: Node) -> Use:
    """Returns the mask value that selects what is not a large negative constant."""
    removes = [_removes(graph, input_name(node, i)) for i in (1, 2)]
    wanted = float(not removes[0])
    keeps = 1.0 if (value.at(1) != 0) == bool(wanted) else 0.0
    return Use("mask", keeps, sure=any(removes))


def _removes(graph: Graph, tensor: str) -> bool:
    constant = graph.value(tensor)
    return constant is not None and constant.size > 0 and bool(np.all(np.asarray(constant, np.float64) < MASKED))


def _computed(graph: Graph, value: _Value, node: Node, index: int) -> Iterator[Use | _Value]:
    """Yields the shifted or scaled value; a mask where it is added to or multiplied with data."""
    op, constant = str(node.op), graph.value(input_name(node, 1 - index))
    if constant is None or constant.size == 0 or constant.dtype.kind not in "fiu":
        if op in ("Add", "Sub") and 0 in (ends := sorted([value.at(0), value.at(1)])) and ends[0] < MASKED:
            yield Use("mask", float(value.at(1) == 0), sure=True)
        elif op == "Mul":
            yield Use("mask", 1)
        yield replace(value, tensor=key(node))
        return
    low, high = float(constant.min()), float(constant.max())
    new = replace(value, tensor=key(node))
    if op == "Add":
        yield replace(new, low=value.low + low, high=value.high + high)
    elif op == "Sub" and index == 0:
        yield replace(new, low=value.low - high, high=value.high - low)
    elif op == "Sub":
        yield replace(new, scale=-value.scale, low=low - value.high, high=high - value.low)
    elif low == high and math.isfinite(low) and (op == "Mul" or low):
        factor = low if op == "Mul" else 1 / low
        yield replace(new, scale=value.scale * factor, low=value.low * factor, high=value.high * factor)
    elif op == "Mul" and _reaches_waves(graph, node):
        yield Use("position")
    else:
        yield new


def _reaches_waves(graph: Graph, node: Node, reach: int = 12) -> bool:
    """Returns whether a Sin or Cos is near downstream: the angles of positions or of time steps."""
    pending, seen = [node], {key(node)}
    while pending and len(seen) < reach:
        for reader in (r for t in pending.pop(0).outputs for r in graph.readers(t.name)):
            if reader.node.op in ("Sin", "Cos"):
                return True
            if key(reader.node) not in seen and reader.node.op not in WEIGHTED:
                seen.add(key(reader.node))
                pending.append(reader.node)
    return False


def _before(graph: Graph, node: Node, index: int) -> int:
    """Returns the number of elements of the inputs of a Concat that precede one, for one-dimensional inputs."""
    dims = [graph.shape(t.name) for t in node.inputs[:index]]
    return sum(d[0] or 0 for d in dims if d is not None and len(d) == 1)
