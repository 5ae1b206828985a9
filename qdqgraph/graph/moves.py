"""Data-movement ops, which only move or select values: Q(f(x)) = f(Q(x)), so all their tensors can share one scale.

The table of operators (`operators`) lists them, some with a condition that is checked here for each node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from ..model.protos import is_standard
from ..operators import JOINS, MOVES_WHEN, NEAREST, ONE_TO_ONE, SPLITS, ZEROS
from .graph import Graph, Reader

Move = tuple[tuple[str, ...], tuple[str, ...]]
"""Data inputs and outputs of a data-movement op."""
MOVING = JOINS | ONE_TO_ONE | MOVES_WHEN.keys()
"""Operators that are, or under a condition may be, data-movement ops."""


def move_of(graph: Graph, node: gs.Node) -> Move | None:
    """Data inputs and outputs of a data-movement op, else None.

    Constants are left out.
    """
    return graph.once(_moves).get(id(node))


def moves(graph: Graph) -> Mapping[int, Move]:
    """The data inputs and outputs of all data-movement ops, by the id of the node; found once."""
    return graph.once(_moves)


def move_at(graph: Graph, reader: Reader) -> Move | None:
    """The data movement that carries the value at this input; None if the reader computes, or reads a shape there."""
    data = reader.index == 0 or (reader.index > 0 and reader.node.op in JOINS)
    return move_of(graph, reader.node) if data else None


def _moves(graph: Graph) -> dict[int, Move]:
    return {id(n): move for n in graph.nodes() if n.op in MOVING and (move := _move(graph, n)) is not None}


def _move(graph: Graph, node: gs.Node) -> Move | None:
    if not is_standard(node):
        return None
    if node.op in JOINS:
        inputs = tuple(t.name for t in node.inputs)
    elif node.op in ONE_TO_ONE or _holds(graph, node):
        inputs = tuple(t.name for t in node.inputs[:1])
    else:
        return None
    if node.op not in SPLITS and any(t.name for t in node.outputs[1:]):
        return None  # the indices of a MaxPool
    data = tuple(name for name in inputs if name and not graph.is_constant(name))
    made = tuple(t.name for t in (node.outputs if node.op in SPLITS else node.outputs[:1]) if t.name)
    return (data, made) if data and made else None


def _holds(graph: Graph, node: gs.Node) -> bool:
    """Whether a node fulfils the condition under which its operator is a data-movement op; False if there is no
    condition."""
    when = MOVES_WHEN.get(node.op)
    return when is not None and CONDITIONS[when](graph, node)


def _adds_zeros(graph: Graph, node: gs.Node) -> bool:
    """Whether a Pad adds zeros, which every symmetric scale represents exactly, or copies of its input's values."""
    if node.attrs.get("mode", "constant") != "constant":
        return True
    if len(node.inputs) > 2 and node.inputs[2].name:
        value = graph.value(node.inputs[2].name)
        return value is not None and not np.any(value)
    return float(node.attrs.get("value", 0.0)) == 0.0


def _nearest(graph: Graph, node: gs.Node) -> bool:
    """Whether a Resize copies its input's values: it neither interpolates nor extrapolates with another value."""
    crops = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return bool(node.attrs.get("mode", "nearest") == "nearest" and not crops)


CONDITIONS: Mapping[str, Callable[[Graph, gs.Node], bool]] = {ZEROS: _adds_zeros, NEAREST: _nearest}
"""The check of each condition in the table of operators."""
