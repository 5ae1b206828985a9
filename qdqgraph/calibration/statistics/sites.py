"""The tensors to measure."""

from __future__ import annotations

import onnx_graphsurgeon as gs
from onnx import TensorProto

from ...graph.elementwise import activation, inner_inputs
from ...graph.graph import Graph, key
from ...model.protos import is_standard
from ...operators import RESHAPES, SUMS, WEIGHTED
from .floating import FloatModel

REAL = (TensorProto.FLOAT, TensorProto.FLOAT16)
"""Element types that are measured."""


def sites_of(network: FloatModel) -> tuple[str, ...]:
    """The sites of a network, in file order.

    These are all floating-point activations. Fewer would do for one repair, but a site must
    not depend on the pairs that the graph has already: a second run would measure other groups.
    """
    graph = Graph(network.model, network.folder)
    order = (*(t.name for t in graph.gs.inputs), *(t.name for node in graph.nodes() for t in node.outputs))
    return tuple(name for name in order if _is_real(graph, name))


def _is_real(graph: Graph, name: str) -> bool:
    return bool(name) and not graph.is_constant(name) and graph.dtype(name) in REAL


def reshaped(network: FloatModel) -> dict[str, str]:
    """The output of each operator that only changes shape or order → the tensor upstream that has the same values."""
    graph = Graph(network.model, network.folder)
    found: dict[str, str] = {}
    for node in graph.nodes():
        if node.op in RESHAPES and is_standard(node) and node.inputs and not graph.is_constant(node.inputs[0].name):
            source: gs.Tensor = node.inputs[0]
            found[node.outputs[0].name] = found.get(source.name, source.name)
    return found


def inside(network: FloatModel) -> frozenset[str]:
    """The tensors inside an activation, and between a weighted layer, normalization or sum and its activation.

    No repair leaves a pair there unless the user asks for it, so their histograms are hardly ever needed.
    """
    graph = Graph(network.model, network.folder)
    found: set[str] = set()
    for node in graph.nodes():
        source = activation(graph, node)
        if source is None:
            continue
        inner = {r.node.inputs[r.index].name for r in inner_inputs(graph, node)}
        own = {key(node), *inner}
        maker = graph.producer(source)
        fuses = maker is not None and maker.op in WEIGHTED | SUMS | {"BatchNormalization"}
        if fuses and source not in graph.outputs and all(key(r.node) in own for r in graph.readers(source)):
            inner.add(source)
        found |= inner
    return frozenset(found)
