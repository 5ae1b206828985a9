"""Sums of squares written as several nodes: the square, its sum, and the nodes up to the root.

Their values range over the square of the input's range: neither an INT8 scale nor FP16 represents them well.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from ..model.protos import is_standard
from ..operators import ADDS_UP, BEFORE_ROOT, PAIRS
from .graph import Graph, Reader, key

UNSEEN = PAIRS | {"Cast"}
"""Operators between two nodes that leave the value what it is, up to rounding."""


def before(graph: Graph, tensor: str) -> str:
    """The tensor that pairs and Casts produce `tensor` from."""
    node = graph.producer(tensor)
    if node is None or node.op not in UNSEEN:
        return tensor
    known, passed = graph.known(before), []
    while tensor not in known:
        node = graph.producer(tensor)
        if node is None or node.op not in UNSEEN or not is_standard(node):
            break
        passed.append(tensor)
        tensor = node.inputs[0].name
    source = known.get(tensor, tensor)
    known.update(dict.fromkeys(passed, source))
    return source


def after(graph: Graph, tensor: str) -> tuple[Reader, ...]:
    """The readers of a tensor, seen through pairs and Casts."""
    known = graph.known(after)
    pending = [] if tensor in known else [tensor]
    while pending:
        readers = graph.readers(pending[-1])
        if not any(map(_is_unseen, readers)):
            known[pending.pop()] = readers
            continue
        through = [key(r.node) if _is_unseen(r) else "" for r in readers]
        left = [name for name in through if name and name not in known]
        if left:
            pending += left
        elif len(through) == 1 and through[0]:
            known[pending.pop()] = known[through[0]]
        else:
            found = zip(readers, through, strict=True)
            known[pending.pop()] = tuple(r for own, name in found for r in (known[name] if name else (own,)))
    return known[tensor]


def _is_unseen(reader: Reader) -> bool:
    return reader.index == 0 and reader.node.op in UNSEEN and is_standard(reader.node)


def sums_of_squares(graph: Graph) -> tuple[tuple[gs.Node, ...], ...]:
    """Every sum or mean of squares: the node that squares, the node that sums, and those up to the root.

    A chain ends at the last node that alone reads the sum, computes from it and constants only, and may be before a
    root (`operators`, category `before_root`).
    """
    return graph.once(_chains)


def _chains(graph: Graph) -> tuple[tuple[gs.Node, ...], ...]:
    found = []
    for node in graph.nodes(*sorted(ADDS_UP)):
        square = graph.producer(before(graph, node.inputs[0].name))
        if square is not None and squares(graph, square):
            found.append((square, *_to_root(graph, node)))
    return tuple(found)


def _to_root(graph: Graph, node: gs.Node) -> list[gs.Node]:
    chain = [node]
    while True:
        readers = after(graph, key(chain[-1]))
        if len(readers) != 1 or readers[0].node.op not in BEFORE_ROOT or not is_standard(readers[0].node):
            return chain
        following = readers[0].node
        if sum(not graph.is_constant(t.name) for t in following.inputs if t.name) != 1:
            return chain
        chain.append(following)


def squares(graph: Graph, node: gs.Node) -> bool:
    """Whether a node computes x², as a product or as a power."""
    if node.op == "Mul" and is_standard(node):
        return before(graph, node.inputs[0].name) == before(graph, node.inputs[1].name)
    exponent = graph.value(node.inputs[1].name) if node.op == "Pow" else None
    return exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2
