"""Nodes that only move or select values: Q(f(x)) == f(Q(x)), so all their tensors can share one scale."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from ..model.protos import is_standard
from .graph import Graph, Reader
from .operators import ONE_TO_ONE

Move = tuple[tuple[str, ...], tuple[str, ...]]
"""Data inputs and outputs of a node that only moves or selects values."""


def move_of(graph: Graph, node: gs.Node) -> Move | None:
    """Data inputs and outputs of a node that only moves or selects values, else None.

    On such a node Q(f(x)) == f(Q(x)): all its tensors can share one grid. Constants are left out.
    """
    return graph.once(_moves).get(id(node))


def move_at(graph: Graph, reader: Reader) -> Move | None:
    """The move that takes the value at this input along; None where the reader computes, or reads a shape there."""
    data = reader.index == 0 or (reader.index > 0 and reader.node.op == "Concat")
    return move_of(graph, reader.node) if data else None


def _moves(graph: Graph) -> dict[int, Move]:
    return {id(node): move for node in graph.nodes() if (move := _move(graph, node)) is not None}


def _move(graph: Graph, node: gs.Node) -> Move | None:
    if not is_standard(node):
        return None
    if node.op == "Concat":
        inputs = tuple(t.name for t in node.inputs)
    elif node.op in ONE_TO_ONE or _zero_pad(graph, node) or _nearest(node):
        inputs = tuple(t.name for t in node.inputs[:1])
    else:
        return None
    if node.op == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].name:
        return None
    data = tuple(name for name in inputs if name and not graph.is_constant(name))
    made = tuple(t.name for t in (node.outputs if node.op == "Split" else node.outputs[:1]) if t.name)
    return (data, made) if data and made else None


def _zero_pad(graph: Graph, node: gs.Node) -> bool:
    if node.op != "Pad":
        return False
    if node.attrs.get("mode", "constant") != "constant":
        return True
    if len(node.inputs) > 2 and node.inputs[2].name:
        value = graph.value(node.inputs[2].name)
        return value is not None and not np.any(value)
    return float(node.attrs.get("value", 0.0)) == 0.0


def _nearest(node: gs.Node) -> bool:
    crops = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return node.op in ("Resize", "Upsample") and node.attrs.get("mode", "nearest") == "nearest" and not crops
