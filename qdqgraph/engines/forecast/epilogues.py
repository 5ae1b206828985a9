"""Which element-wise nodes downstream of a weighted node form one function, or run in its kernel."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_graphsurgeon as gs

from ...graph.graph import Graph, key
from ...operators import BINARY, ELEMENTWISE, JOINS, RESHAPES, VIEWS, members
from .propagation import values

STEPS = 16
"""Upper bound of the number of nodes; exporters write fewer."""
IN_FLOAT_KERNEL = members("float_epilogues")
GENERATED = members("generated")


def data_of(graph: Graph, node: gs.Node) -> list[str]:
    """The inputs of a node that are not constant."""
    return [t.name for t in node.inputs if t.name and not graph.is_constant(t.name)]


def function_of(graph: Graph, tensor: str, ends: Collection[str]) -> list[gs.Node]:
    """The nodes of an element-wise function of a tensor that reads a tensor twice, if nothing else reads any.

    Such are SiLU, GELU, HardSwish, squared ReLU and snake, written as several nodes. Empty if there is none.

    Args:
        graph: the graph.
        tensor: the tensor.
        ends: the network outputs.
    """
    inside: list[gs.Node] = []
    if _leaves(graph, [tensor], ends):
        return inside
    made, joined = [tensor], False
    while len(inside) < STEPS:
        left = _left(graph, made, inside, ends)
        if joined and left == made[-1:]:
            return inside
        ready = [
            n for n in _readers(graph, left, inside) if n.op in ELEMENTWISE and set(data_of(graph, n)) <= set(made)
        ]
        if not ready or _leaves(graph, left, ends):
            return []
        inside.append(min(ready, key=graph.position))
        joined = joined or sum(t.name in made for t in inside[-1].inputs) > 1
        made.append(key(inside[-1]))
    return []


def float_epilogue(graph: Graph, tensor: str, ends: Collection[str], taken: Collection[int]) -> list[gs.Node]:
    """The element-wise nodes that run in the kernel of a floating-point convolution (F13).

    Measured on TensorRT-RTX 1.7.1: functions of its result, with at most one other operand, if a library kernel or data
    movement reads what they compute. Where another generated kernel reads it, or a Q, they run there.

    Args:
        graph: the graph.
        tensor: the result of the convolution, its norm and bias.
        ends: the network outputs.
        taken: ids of nodes that run in the kernel of another weighted node.
    """
    inside: list[gs.Node] = []
    found: list[gs.Node] = []
    made, other = [tensor], False
    while len(inside) < STEPS:
        left = _left(graph, made, inside, ends)
        if inside and left == made[-1:] and _read_apart(graph, left[0], ends, taken):
            found = list(inside)
        ready = []
        for node in _readers(graph, left, inside):
            outside = set(data_of(graph, node)) - set(made)
            alone = not outside or (not other and len(left) == 1 and node.op in BINARY)
            ready += [node] if node.op in IN_FLOAT_KERNEL and alone and id(node) not in taken else []
        if not ready or _leaves(graph, left, ends):
            return found
        inside.append(min(ready, key=graph.position))
        other = other or bool(set(data_of(graph, inside[-1])) - set(made))
        made.append(key(inside[-1]))
    return found


def _left(graph: Graph, made: Sequence[str], inside: Sequence[gs.Node], ends: Collection[str]) -> list[str]:
    """The tensors that something else reads than the nodes inside."""
    known = {id(node) for node in inside}
    return [n for n in made if n in ends or not known.issuperset([id(u.reader.node) for u in values(graph, n)])]


def _readers(graph: Graph, left: Sequence[str], inside: Sequence[gs.Node]) -> list[gs.Node]:
    """The nodes that read these tensors, without those inside."""
    known = {id(node) for node in inside}
    found = {id(u.reader.node): u.reader.node for name in left for u in values(graph, name) if u.reader.index >= 0}
    return [node for number, node in found.items() if number not in known]


def _leaves(graph: Graph, left: Sequence[str], ends: Collection[str]) -> bool:
    """Whether a pair or the network's caller reads one of these tensors."""
    return any(n in ends or any(u.pair is not None for u in values(graph, n)) for n in left)


def _read_apart(graph: Graph, tensor: str, ends: Collection[str], taken: Collection[int]) -> bool:
    """Whether only library kernels and data movement read a tensor, unquantized."""
    uses = values(graph, tensor)
    moved = (JOINS | RESHAPES) - VIEWS
    return (
        bool(uses)
        and not _leaves(graph, [tensor], ends)
        and all(n.op not in GENERATED or n.op in moved or id(n) in taken for n in (u.reader.node for u in uses))
    )
