"""Constants that say how an operator computes: scales and sizes of a Resize, starts of a Slice, a shape, a count."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from ..model.protos import is_standard
from ..operators import ARGUMENTS, SAME_CONSTANT
from .graph import Graph, Node, Reader, key

FOLLOWED = SAME_CONSTANT | {"Concat"}
"""Operators through which a value reaches further inputs."""


def argument_readers(graph: Graph, found: Sequence[Reader]) -> tuple[Reader, ...]:
    """Returns the inputs that use a value as an argument, through Casts, changes of shape and Concats.

    Empty if one of its consumers uses the value otherwise: as data.

    Args:
        graph: the graph.
        found: the consumers of the value.
    """
    arguments = graph.once(_arguments)
    if not all(key(r.node) in arguments if _follows(graph, r) else is_argument(r) for r in found):
        return ()
    uses: list[Reader] = []
    pending, seen = [*reversed(found)], set[str]()
    while pending:
        reader = pending.pop()
        made = key(reader.node)
        if not _follows(graph, reader):
            uses.append(reader)
        elif made not in seen:
            seen.add(made)
            pending += reversed(graph.readers(made))
    return tuple(uses)


def is_argument(reader: Reader) -> bool:
    """Returns whether an input says how its node computes rather than what with."""
    return is_standard(reader.node) and reader.index in ARGUMENTS.get(str(reader.node.op), ())


def argument_name(node: Node, index: int, opset: int) -> str:
    """Returns ONNX's name for an input of a standard operator, such as "scales"; "argument" if it has none."""
    try:
        inputs = onnx.defs.get_schema(node.op, opset, "").inputs
    except onnx.defs.SchemaError:
        return "argument"
    return str(inputs[index].name) if index < len(inputs) else "argument"


def _arguments(graph: Graph) -> set[str]:
    """Results of nodes that only inputs that use an argument read, in one backward pass."""
    found: set[str] = set()
    for node in reversed(graph.nodes()):
        name = key(node)
        for reader in graph.readers(name):
            if not (key(reader.node) in found if _follows(graph, reader) else is_argument(reader)):
                break
        else:
            found.add(name)
    return found


def _follows(graph: Graph, reader: Reader) -> bool:
    """Whether the value reaches further inputs through this one: a Cast, a change of shape or a Concat."""
    if reader.node.op not in FOLLOWED:
        return False
    passes = reader.index == 0 and reader.node.op in SAME_CONSTANT and not is_argument(reader)
    joins = reader.index >= 0 and reader.node.op == "Concat"
    return (passes or joins) and key(reader.node) not in graph.outputs
