"""Clipping by a pair, whose quantization range can replace a Relu or Clip, and the nodes that restore it."""

from __future__ import annotations

import numpy as np
import onnx

from ..graph.graph import Graph
from ..graph.moves import move_of
from ..graph.pair import Pair
from ..graph.quantization import Quantization
from ..operators import NONNEGATIVE
from .nodes import make_constant, make_node


def clips_negatives(graph: Graph, pair: Pair) -> bool:
    """Whether the pair clips negative values as a Relu does: its range, or that of a channel, starts at zero, and its
    tensor may be negative."""
    quantization = Quantization.of(pair)
    if quantization is None or pair.kind != "activation":
        return False
    return bool((quantization.zero_point == np.iinfo(quantization.zero_point.dtype).min).any()) and not nonnegative(
        graph, pair.tensor
    )


def clip_nodes(graph: Graph, pair: Pair, name: str) -> list[onnx.NodeProto] | None:
    """Nodes that clip the pair's tensor to the pair's range, per channel if its scale is, and produce `name`; None if
    the channel axis is unknown, or the range is not a number.

    If the tensor cannot be negative, the range starts at zero.
    """
    quantization, shape = Quantization.of(pair), graph.shape(pair.tensor)
    assert quantization is not None
    bounds, zero = np.iinfo(quantization.zero_point.dtype), quantization.zero_point.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = [
            np.asarray((bound - zero) * quantization.scale).astype(quantization.scale.dtype)
            for bound in (bounds.min, bounds.max)
        ]
    if any(np.isnan(end).any() for end in ends):
        return None
    if nonnegative(graph, pair.tensor):
        ends[0] = np.maximum(ends[0], np.zeros_like(ends[0]))
    low, high = (f"{name}_{end}" for end in ("low", "high"))
    if ends[0].size > 1:
        if shape is None or not -len(shape) <= quantization.axis < len(shape):
            return None
        along = [1] * len(shape)
        along[quantization.axis] = ends[0].size
        between = [make_node("Max", [pair.tensor, low], f"{name}_cut"), make_node("Min", [f"{name}_cut", high], name)]
        return [make_constant(low, ends[0].reshape(along)), make_constant(high, ends[1].reshape(along)), *between]
    ends = [end.reshape(()) for end in ends]
    if graph.opset < 11:  # the limits are attributes there
        given = zip(("min", "max"), map(float, ends), strict=True)
        return [make_node("Clip", [pair.tensor], name, [onnx.helper.make_attribute(*limit) for limit in given])]
    return [
        make_constant(low, ends[0]),
        make_constant(high, ends[1]),
        make_node("Clip", [pair.tensor, low, high], name),
    ]


def nonnegative(graph: Graph, tensor: str) -> bool:
    """Whether the upstream nodes guarantee that the tensor has no negative values."""
    pending, seen = [tensor], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        node = graph.producer(name)
        if node is None:
            return False
        if node.op in NONNEGATIVE:
            continue
        if node.op == "Clip":
            least = graph.value(node.inputs[1].name) if len(node.inputs) > 1 and node.inputs[1].name else None
            if (node.attrs.get("min", -1.0) if least is None else min(least.reshape(-1), default=-1.0)) >= 0:
                continue
        move = move_of(graph, node)
        if move is None or not move[0]:
            return False
        pending += move[0]
    return True
