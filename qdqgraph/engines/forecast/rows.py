"""Element-wise nodes in a row, which one kernel computes where element-wise nodes alone are joined (F1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from ...graph.graph import Graph, key
from .propagation import values


@dataclass(eq=False)
class _Row:
    """Nodes in a row.

    Attributes:
        nodes: the nodes.
        readers: ids of the other nodes that read a result; None if a pair or the network's caller reads one.
    """

    nodes: list[gs.Node]
    readers: set[int] | None


def rows(
    graph: Graph, nodes: Iterable[gs.Node], data: Callable[[gs.Node], Iterable[str]], ends: Collection[str]
) -> list[list[gs.Node]]:
    """Divides nodes into rows: a row continues with the only node that reads its results, unquantized.

    Args:
        graph: the graph.
        nodes: element-wise nodes, in file order.
        data: the inputs of a node that are not constant.
        ends: the network outputs.

    Returns:
        The rows, each in file order.
    """
    found: dict[int, _Row] = {}
    for node in nodes:
        uses = values(graph, key(node))
        closed = key(node) in ends or any(u.pair is not None for u in uses)
        mine = found[id(node)] = _Row([node], None if closed else {id(u.reader.node) for u in uses})
        before = [found.get(id(graph.producer(name))) for name in data(node)]
        for row in {id(row): row for row in before if row is not None and row is not mine}.values():
            if row.readers is not None and row.readers <= {id(node)}:
                mine = _joined(mine, row, found)
    unique = {id(row): row for row in found.values()}
    return [sorted(row.nodes, key=graph.position) for row in unique.values()]


def _joined(last: _Row, row: _Row, found: dict[int, _Row]) -> _Row:
    """A row with the one that reads its results, as one, in the table of rows by node."""
    short, long = sorted((last, row), key=lambda r: len(r.nodes))
    long.nodes += short.nodes
    long.readers = last.readers
    found.update((id(node), long) for node in short.nodes)
    return long
