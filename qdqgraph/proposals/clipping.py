"""Clipping by a pair, whose quantization range can replace a Relu or Clip, and the nodes that restore it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx

from ..graph.graph import Graph
from ..graph.moves import move_of
from ..graph.pair import Pair
from ..graph.quantization import Quantization
from ..operators import NONNEGATIVE
from .nodes import make_constant, make_node

NARROW: Mapping[str, tuple[int, int]] = {"int2": (-2, 1), "uint2": (0, 3), "int4": (-8, 7), "uint4": (0, 15)}
"""Smallest and largest integer of the types that numpy lacks, by name."""


def clips_negatives(graph: Graph, pair: Pair) -> bool:
    """Whether the pair clips negative values as a Relu does: its range, or that of a channel, starts at zero, and its
    tensor may be negative."""
    found = _bounded(pair) if pair.kind == "activation" else None
    if found is None:
        return False
    quantization, (least, _) = found
    return bool((quantization.zero_point == least).any()) and not nonnegative(graph, pair.tensor)


def _bounded(pair: Pair) -> tuple[Quantization, tuple[int, int]] | None:
    """The quantization of a pair, and the smallest and largest of its integers, also of a type of less than a byte;
    None as `Quantization.of`."""
    ends = None if pair.zero_point is None else NARROW.get(str(pair.zero_point.dtype))
    if ends is not None and pair.zero_point is not None:
        pair = replace(pair, zero_point=pair.zero_point.astype(np.int8))
    quantization = Quantization.of(pair)
    if quantization is None:
        return None
    bounds = np.iinfo(quantization.zero_point.dtype)
    return quantization, ends or (int(bounds.min), int(bounds.max))


def clip_nodes(graph: Graph, pair: Pair, name: str) -> list[onnx.NodeProto] | None:
    """Nodes that clip the pair's tensor to the pair's range, per channel if its scale is, and produce `name`; None if
    the range or the channel axis is unknown, or the tensor has other channels than the pair.

    If the tensor cannot be negative, the range starts at zero.
    """
    found, shape = _bounded(pair), graph.shape(pair.tensor)
    if found is None:
        return None
    quantization, bounds = found
    zero = quantization.zero_point.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = [np.asarray((bound - zero) * quantization.scale).astype(quantization.scale.dtype) for bound in bounds]
    if any(np.isnan(end).any() for end in ends):
        return None
    if nonnegative(graph, pair.tensor):
        ends[0] = np.maximum(ends[0], np.zeros_like(ends[0]))
    low, high = (f"{name}_{end}" for end in ("low", "high"))
    if ends[0].size > 1:
        if shape is None or not quantization.fits_shape(shape):
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
