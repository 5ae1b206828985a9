"""The tensors to measure: those that have a pair, and those that a repair could give one."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs
from onnx import TensorProto

from ...graph.elementwise import activation
from ...graph.graph import Graph
from ...graph.moves import move_of
from ...model.protos import is_standard
from ...operators import AVERAGES, RESHAPES, SUMS, WEIGHTED
from .floating import FloatModel

REAL = (TensorProto.FLOAT, TensorProto.FLOAT16)
"""Element types that are measured."""


def sites_of(network: FloatModel) -> tuple[str, ...]:
    """The sites of a network, in file order.

    These are: the tensors that the pairs of the Q/DQ graph quantize; the inputs of weighted operators; the inputs and
    outputs of data movement, sums, averages, and products of two activations.
    """
    graph = Graph(network.model, network.folder)
    found = {*_could(graph), *network.wires.values()}
    order = (*(t.name for t in graph.gs.inputs), *(t.name for node in graph.nodes() for t in node.outputs))
    return tuple(name for name in order if name in found and _is_real(graph, name))


def _could(graph: Graph) -> Iterator[str]:
    for node in graph.nodes():
        if not is_standard(node):
            continue
        move = move_of(graph, node)
        if move is not None:
            yield from (*move[0], *move[1])
        elif node.op in WEIGHTED:
            yield from (t.name for t in node.inputs)
        elif node.op in AVERAGES:
            yield from (node.inputs[0].name, node.outputs[0].name)
        elif (node.op in SUMS or node.op == "Mul") and activation(graph, node) is None:
            yield from (t.name for t in (*node.inputs, *node.outputs))


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
