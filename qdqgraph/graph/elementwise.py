"""Element-wise functions of one tensor, written as one node or several (SiLU, GELU, Mish, snake)."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from ..model.protos import is_standard
from ..operators import BINARY, UNARY
from .graph import Graph, Reader, key
from .pair import pairs


def self_gate(graph: Graph, node: gs.Node) -> str | None:
    """The tensor x of a product x * f(x) (SiLU, Mish, HardSwish, GELU), else None."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return None
    names = [t.name for t in node.inputs]
    for x, gate in (names, names[::-1]):
        site, steps = pairs(graph).root(x), 0
        while steps < 8 and gate:
            gate = pairs(graph).root(gate)
            if steps and gate == site:
                return x
            maker = graph.producer(gate)
            source = None if maker is None else pointwise(graph, maker)
            if source is None:
                break
            gate, steps = source, steps + 1
    return None


def inner_inputs(graph: Graph, end: gs.Node) -> list[Reader]:
    """The inputs between the nodes of an element-wise function that ends in a node; empty if it is no such function.

    They read what another of its nodes computes, not the tensor that it is a function of, nor constants.
    """
    root = pairs(graph).root
    source = activation(graph, end)
    if source is None:
        return []
    found: list[Reader] = []
    pending, seen = [end], {key(end)}
    while pending:
        node = pending.pop()
        for index, tensor in enumerate(node.inputs):
            maker = graph.producer(root(tensor.name)) if tensor.name else None
            if maker is None or root(tensor.name) == root(source) or graph.is_constant(tensor.name):
                continue
            found.append(Reader(node, index))
            if key(maker) not in seen:
                seen.add(key(maker))
                pending.append(maker)
    return found


def pointwise(graph: Graph, node: gs.Node) -> str | None:
    """The only non-constant input of an element-wise node, else None."""
    if not is_standard(node):
        return None
    if node.op in UNARY:
        return str(node.inputs[0].name)
    if node.op in BINARY and len(node.inputs) == 2:
        data = [t.name for t in node.inputs if not graph.is_constant(t.name)]
        return str(data[0]) if len(data) == 1 else None
    return None


def activation(graph: Graph, node: gs.Node) -> str | None:
    """The tensor of which the node's result is an element-wise function, else None.

    The function may consist of several nodes that read the tensor more than once, as in SiLU, Mish, GELU or snake: a
    node with two operands is part of it if element-wise nodes and constants compute both from the tensor.
    """
    return pointwise(graph, node) or graph.once(_joins).get(id(node))


def _joins(graph: Graph) -> dict[int, str]:
    """The nodes whose two operands are functions of one tensor, with the nearest such tensor, seen through pairs."""
    above: dict[str, tuple[str, int]] = {}
    found: dict[int, str] = {}
    root = pairs(graph).root
    for node in graph.nodes():
        if node.op not in UNARY and node.op not in BINARY:
            continue
        source = pointwise(graph, node)
        if source is None and node.op in BINARY and len(node.inputs) == 2 and is_standard(node):
            source = _meet(above, *(root(t.name) for t in node.inputs))
            if source is not None:
                found[id(node)] = source
        if source is not None:
            source = root(source)
            above[key(node)] = (source, above.get(source, ("", 0))[1] + 1)
    return found


def _meet(above: dict[str, tuple[str, int]], first: str, second: str) -> str | None:
    """The nearest tensor upstream of both; None if there is none within the usual length of such a function."""
    for _ in range(16):
        if first == second:
            return first
        if above.get(first, ("", 0))[1] < above.get(second, ("", 0))[1]:
            first, second = second, first
        if first not in above:
            return None
        first = above[first][0]
    return None
