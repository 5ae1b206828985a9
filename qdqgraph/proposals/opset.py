"""Nodes that do not fit the opset of their model: what onnx.checker says of them, and the same node in that opset."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs
from onnx import numpy_helper

from ..errors import ModelError
from ..graph.graph import Graph
from ..model.conformance import faults, fitting_opset
from ..model.opset import converted
from ..model.protos import names
from .nodes import make_constant, replace
from .proposal import Graft


def node_faults(graph: Graph) -> Mapping[str, str]:
    """Why onnx.checker rejects nodes of the view, by their keys; found once."""
    return graph.once(_in_view)


def model_faults(graph: Graph) -> Mapping[str, str]:
    """What `model.conformance.faults` returns for the model of a graph; found once."""
    return graph.once(_of_model)


def _of_model(graph: Graph) -> Mapping[str, str]:
    return faults(graph.model)


def _in_view(graph: Graph) -> Mapping[str, str]:
    return {place: fault for place, fault in model_faults(graph).items() if graph.source(place) == place}


def written_for(graph: Graph, node: gs.Node) -> int | None:
    """The opset for which the exporter wrote a node that does not fit the opset of the model; None if there is none."""
    return fitting_opset(graph.proto(node), graph.opset)


def in_opset(graph: Graph, node: gs.Node) -> Graft | None:
    """The same node as the opset of the model defines it, with constants for attributes that became inputs; None if it
    is not written for an earlier opset, or cannot be converted."""
    own = written_for(graph, node)
    if own is None or own > graph.opset:
        return None
    known = {
        t.name: (kind, graph.shape(t.name)) for t in (*node.inputs, *node.outputs) if (kind := graph.dtype(t.name))
    }
    ranked = {name: (kind, dims) for name, (kind, dims) in known.items() if dims is not None}
    try:
        nodes, constants = converted(graph.proto(node), ranked, set(names(graph.model.graph)), own, graph.opset)
    except ModelError:
        return None
    return replace([node], [*(make_constant(t.name, numpy_helper.to_array(t)) for t in constants), *nodes])
