"""Folds a graph into boxes: each is one layer with the Q, DQ, activations and data movement that follow it.

A node folds into a box if everything that it computes with comes from that box, and its operator is neither a kernel of
its own in the table of operators, nor a reduction, nor one that joins tensors. So a box before a repair is the same box
after it, whatever pairs were added or removed, and the boxes of a graph have no cycle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...engines.forecast.kernels import shape_arithmetic
from ...graph.graph import Graph, Node, key
from ...graph.normalizations import normalizations
from ...graph.pair import is_pair, pairs
from ...model.protos import is_standard
from ...operators import FLOAT_ONLY, JOINS, KERNELS, MOVES, PAIRS, REDUCTIONS, SHAPES, VIEWS, members

FOLDS = (members("generated") | MOVES | VIEWS | SHAPES) - KERNELS.keys() - FLOAT_ONLY - REDUCTIONS - JOINS - PAIRS
"""Operators that fold into the layer upstream of them."""


@dataclass(frozen=True, eq=False)
class Folded:
    """One box.

    Attributes:
        key: the output of its core; the name of a graph input; that of a graph output with a space after it.
        core: the node that the box is named after; None for an end of the graph.
        nodes: all its nodes, in file order.
        normalization: whether its core is a normalization that is written as several nodes.
    """

    key: str
    core: Node | None
    nodes: tuple[Node, ...]
    normalization: bool = False


@dataclass(frozen=True, eq=False)
class Folding:
    """The boxes of a graph, and the box of each tensor.

    Attributes:
        boxes: sources before readers.
        makes: tensor → index of the box that produces it, or that is this graph input.
        lines: (index of the source, index of the reader, tensor, the node that reads it; None for a graph output).
    """

    boxes: tuple[Folded, ...]
    makes: Mapping[str, int]
    lines: tuple[tuple[int, int, str, Node | None], ...]


def folded(graph: Graph) -> Folding:
    """The boxes of a graph; constants and what is computed from them alone are left out."""
    boxes: list[Folded] = []
    members_of: list[list[Node]] = []
    makes: dict[str, int] = {}

    def opened(name: str, core: Node | None, *, normalization: bool = False) -> int:
        boxes.append(Folded(name, core, (), normalization))
        members_of.append([])
        return len(boxes) - 1

    for tensor in graph.gs.inputs:
        if tensor.name not in graph.initializers:
            makes[tensor.name] = opened(tensor.name, None)
    groups = {id(n): number for number, group in enumerate(normalizations(graph).groups) for n in group}
    shapes, normal = graph.once(shape_arithmetic), dict[int, int]()
    for node in graph.nodes():
        if graph.is_constant(key(node)):
            continue
        before = {makes[name] for name in _data(graph, node) if name in makes}
        group = groups.get(id(node))
        if group is not None and group in normal and all(box <= normal[group] for box in before):
            box = normal[group]
        elif group is None and _folds(boxes, node, before, shape=id(node) in shapes):
            box = max(before)
        else:
            box = opened(key(node), node, normalization=group is not None)
        if group is not None:
            normal[group] = box
        members_of[box].append(node)
        makes.update((t.name, box) for t in node.outputs if t.name)
    ends = []
    for tensor in graph.gs.outputs:
        if (source := makes.get(graph.source(tensor.name))) is not None:
            ends.append((source, opened(f"{tensor.name} ", None), tensor.name, None))
    made = tuple(Folded(b.key, b.core, tuple(m), b.normalization) for b, m in zip(boxes, members_of, strict=True))
    return Folding(made, makes, (*_lines(graph, made, makes, shapes), *ends))


def unfolded(graph: Graph) -> Folding:
    """Each node as a box of its own; constants and what is computed from them alone are left out."""
    inputs = [t.name for t in graph.gs.inputs if t.name not in graph.initializers]
    boxes = [Folded(name, None, ()) for name in inputs]
    boxes += [Folded(key(node), node, (node,)) for node in graph.nodes() if not graph.is_constant(key(node))]
    makes = {name: index for index, name in enumerate(inputs)}
    makes.update((t.name, i) for i, box in enumerate(boxes) for node in box.nodes for t in node.outputs if t.name)
    lines: dict[tuple[int, int, str], Node | None] = {}
    for index, box in enumerate(boxes):
        for node in box.nodes:
            lines.update(((makes[name], index, name), node) for name in _read(graph, node) if name in makes)
    for tensor in graph.gs.outputs:
        if (source := makes.get(tensor.name)) is not None:
            lines[source, len(boxes), tensor.name] = None
            boxes.append(Folded(f"{tensor.name} ", None, ()))
    return Folding(tuple(boxes), makes, tuple((*line, node) for line, node in lines.items()))


def _folds(boxes: list[Folded], node: Node, before: set[int], *, shape: bool) -> bool:
    """Whether a node folds into the last of these boxes. A box reads only boxes before it, so there is no cycle."""
    if not before:
        return False
    if is_pair(node) or shape:
        return True
    return len(before) == 1 and node.op in FOLDS and is_standard(node) and boxes[max(before)].core is not None


def _lines(
    graph: Graph, boxes: tuple[Folded, ...], makes: Mapping[str, int], shapes: frozenset[int]
) -> Iterator[tuple[int, int, str, Node | None]]:
    seen: set[tuple[int, int, str]] = set()
    for target, box in enumerate(boxes):
        for node in box.nodes:
            if id(node) in shapes:
                continue
            for name in _data(graph, node):
                source = makes.get(name)
                maker = graph.producer(name)
                if source is None or source == target or (maker is not None and id(maker) in shapes):
                    continue
                line = (source, target, pairs(graph).root(name))
                if line not in seen:
                    seen.add(line)
                    yield source, target, name, node


def _data(graph: Graph, node: Node) -> list[str]:
    """The tensors that a node computes with, also those that its subgraphs capture; without constants."""
    return [graph.source(name) for name in _read(graph, node) if not graph.is_constant(name)]


def _read(graph: Graph, node: Node) -> list[str]:
    """The tensors that a node and its subgraphs read from outside."""
    return [str(t.name) for t in node.inputs if t.name] + graph.once(_captured).get(id(node), [])


def _captured(graph: Graph) -> Mapping[int, list[str]]:
    """The tensors that the subgraphs of each node read from outside, by the id of the node."""
    found: dict[int, list[str]] = {}
    for name, reader in graph.captures:
        found.setdefault(id(reader.node), []).append(name)
    return found
