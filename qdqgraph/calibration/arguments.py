"""Values for inputs that say how to compute: shapes, sizes, scales, axes, counts."""

from __future__ import annotations

import math

from ..graph.graph import Graph, Node, input_name, key
from ..operators import SHAPED_BY_INPUT


def argument(graph: Graph, node: Node, index: int, size: int, start: int = 0) -> tuple[float, ...]:
    """Returns values that run at an input of `operators.ARGUMENTS`.

    Args:
        graph: the graph, with known shapes.
        node: the consumer.
        index: its input.
        size: the number of values of the graph input that is read there.
        start: where they begin in what the node reads.
    """
    whole = _whole(graph, node, index)
    if len(whole) == 1:
        return whole * size
    return whole[start : start + size] if len(whole) >= start + size else ()


def _whole(graph: Graph, node: Node, index: int) -> tuple[float, ...]:
    op, made = str(node.op), _known(graph, key(node))
    given = graph.shape(input_name(node, 0)) or ()
    data = tuple(d or 1 for d in given)
    length = math.prod(d or 1 for d in graph.shape(input_name(node, index)) or (1,))
    if op in SHAPED_BY_INPUT and made and len(made) == length:
        return made
    if op == "Reshape":
        return (0.0,) * length if length == len(data) else (1.0,) * (length - 1) + (-1.0,)
    if op in ("Resize", "Upsample"):
        old = op == "Upsample" or graph.opset < 11  # the scales are the second input
        return _resized(2 if old else index, data, length)
    if op == "Slice":
        return {1: (0.0,), 2: (float(2**31 - 1),), 3: tuple(map(float, range(length))), 4: (1.0,)}[index]
    if op == "TopK":
        axis = int(node.attrs.get("axis", -1))
        return (float(min(data[axis] if data else 1, 10)),)
    if op == "Range":
        return ({0: 0.0, 1: 16.0, 2: 1.0}[index],)
    if op == "NonMaxSuppression":
        return ({2: 100.0, 3: 0.5, 4: 0.1}[index],)
    if op == "OneHot":
        return (10.0,)
    if op == "Tile" or op in SHAPED_BY_INPUT:
        return (1.0,)
    if op == "Pad" and index == 1:
        return (0.0,)
    if op == "Split" and data:
        total, parts = data[int(node.attrs.get("axis", 0))], max(length, 1)
        return tuple(float(total // parts + (total % parts if i == parts - 1 else 0)) for i in range(parts))
    return tuple(-1.0 - i for i in reversed(range(length)))  # axes: the last ones


def _resized(index: int, data: tuple[int, ...], length: int) -> tuple[float, ...]:
    """Returns the roi (1), scales (2) or sizes (3) that double what is not batch or channel."""
    if index == 1:
        return (0.0,) * (length // 2) + (1.0,) * (length - length // 2)
    dims = data[len(data) - length :]
    double = [i + len(data) - length > 1 for i in range(length)]
    if index == 3:
        return tuple(float(d * 2 if twice else d) for d, twice in zip(dims, double, strict=True))
    return tuple(2.0 if twice else 1.0 for twice in double)


def _known(graph: Graph, tensor: str) -> tuple[float, ...]:
    dims = graph.shape(tensor)
    return () if dims is None or None in dims else tuple(float(d or 0) for d in dims)
