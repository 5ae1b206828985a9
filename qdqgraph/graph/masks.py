"""Masks: constants far below every value, which a Where or an Add writes over values that must not count.

Attention writes -10000, -65504, the least float or -inf over the scores of masked positions, and Softmax turns them
into zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..model.protos import is_standard
from ..operators import KEEPS_ALL, ONE_TO_ONE, PARTS, SAME_CONSTANT
from .graph import Graph, key
from .moves import move_of
from .normalizations import normalizations
from .pair import pairs
from .squares import UNSEEN, before

LEAST = 64.0
"""The smallest magnitude of a mask before a Softmax: exp(-64) is 0 in FP16 and 1.6e-28 in FP32. Swin writes -100."""
PLAIN = 1000.0
"""The smallest magnitude of a mask elsewhere: a constant that large is no activation."""
SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
SPREADS = (ONE_TO_ONE & KEEPS_ALL) | SAME_CONSTANT
"""Operators that keep the one value of a constant."""


@dataclass(frozen=True)
class Mask:
    """A tensor in which a mask has been written over some values.

    Attributes:
        tensor: the output of the Where or Add.
        data: the tensor of the values.
        value: what masked values become, or what is added to them; may be -inf.
        weighed: a Softmax, or one written as several nodes, reads the tensor.
    """

    tensor: str
    data: str
    value: float
    weighed: bool


def mask(graph: Graph, tensor: str) -> Mask | None:
    """The mask in a tensor, seen through data movement and pairs; None if there is none."""
    source = _made(graph, tensor)
    node = graph.producer(source)
    if node is None or not is_standard(node):
        return None
    weighed = graph.source(source) in graph.once(_weighed)
    operands = node.inputs[1:3] if node.op == "Where" else node.inputs if node.op == "Add" else ()
    for index, operand in enumerate(operands):
        other = operands[1 - index].name
        value = _constant(graph, operand.name) if node.op == "Where" else _added(graph, operand.name)
        if value is not None and value <= -(LEAST if weighed else PLAIN) and not graph.is_constant(other):
            return Mask(source, other, value, weighed)
    return None


def _made(graph: Graph, tensor: str) -> str:
    """The tensor that data-movement ops of one input, and pairs, produce `tensor` from."""
    known, passed = graph.known(_made), []
    while True:
        tensor = pairs(graph).root(tensor)
        node = graph.producer(tensor) if tensor not in known else None
        move = None if node is None else move_of(graph, node)
        if move is None or len(move[0]) != 1:
            break
        passed.append(tensor)
        tensor = move[0][0]
    source = known.get(tensor, tensor)
    known.update(dict.fromkeys(passed, source))
    return source


def _weighed(graph: Graph) -> set[str]:
    """Tensors that a Softmax, or one written as several nodes, reads through data movement, pairs and Casts, in one
    backward pass."""
    found: set[str] = set()
    inner = normalizations(graph)
    if not any(node.op in SOFTMAX or inner.computes(node) for node in graph.nodes()):
        return found
    for node in reversed(graph.nodes()):
        move = move_of(graph, node)
        passes = any(name in found for name in (() if move is None else move[1]))
        weighs = node.op in SOFTMAX or inner.computes(node) or passes
        for index, tensor in enumerate(node.inputs):
            unseen = index == 0 and node.op in UNSEEN and is_standard(node)
            if tensor.name and (key(node) in found if unseen else weighs):
                found.add(graph.source(tensor.name))
    return found


def _constant(graph: Graph, tensor: str) -> float | None:
    """The one value of a constant, also expanded; None if the tensor is no such constant."""
    while (node := graph.producer(tensor)) is not None and is_standard(node) and node.op in SPREADS:
        if not node.inputs:
            return None
        tensor = node.inputs[0].name
    value = graph.value(tensor)
    if value is None or value.dtype.kind != "f" or not value.size or value.min() != value.max():
        return None
    return float(value.min())


def _added(graph: Graph, tensor: str) -> float | None:
    """What an additive mask adds where it masks: the least value of a constant that is zero elsewhere, the negative
    factor of a product, or the constant of a Where."""
    while True:
        tensor = before(graph, tensor)
        value = graph.value(tensor)
        if value is not None:
            both = value.dtype.kind == "f" and value.size > 1 and bool(value.min() < -LEAST < value.max())
            return float(value.min()) if both else None
        node = graph.producer(tensor)
        if node is None or not is_standard(node) or not node.inputs:
            return None
        if node.op not in ONE_TO_ONE | PARTS | SAME_CONSTANT:
            break
        tensor = node.inputs[0].name
    read = [t.name for t in node.inputs]
    if node.op == "Mul":
        return min((v for v in (_constant(graph, name) for name in read) if v is not None), default=None)
    if node.op == "Where":
        return min((v for v in (_constant(graph, name) for name in read[1:]) if v is not None), default=None)
    return None
