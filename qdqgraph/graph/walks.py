"""Walks from a tensor: up to what it is computed from, down to what reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import onnx_graphsurgeon as gs

from .graph import Graph, Reader, key
from .moves import move_at
from .pair import is_pair

Through = Callable[[gs.Node], bool]
"""Whether a walk goes on after a node."""


def upstream(graph: Graph, tensor: str, through: Through | None = None) -> Iterator[gs.Node]:
    """The nodes from which a tensor is computed, nearest first, each once; without those that compute constants.

    Args:
        graph: the graph.
        tensor: where the walk begins; its producer comes first.
        through: whether to go on to what feeds a node; by default always. The node itself comes either way.
    """
    pending, seen = deque([tensor]), set[str]()
    while pending:
        name = pending.popleft()
        node = None if graph.is_constant(name) else graph.producer(name)
        if node is None or key(node) in seen:
            continue
        seen.add(key(node))
        yield node
        if through is None or through(node):
            pending.extend(t.name for t in node.inputs if t.name)


def downstream(graph: Graph, tensor: str, through: Through | None = None) -> Iterator[gs.Node]:
    """The nodes that a tensor reaches, nearest first, each once; a node whose subgraph captures a tensor reads it.

    Args:
        graph: the graph.
        tensor: where the walk begins; its readers come first.
        through: whether to go on to what reads the outputs of a node; by default always. The node comes either way.
    """
    pending, seen = deque([tensor]), set[str]()
    while pending:
        for reader in graph.readers(pending.popleft()):
            if key(reader.node) not in seen:
                seen.add(key(reader.node))
                yield reader.node
                if through is None or through(reader.node):
                    pending.extend(t.name for t in reader.node.outputs if t.name)


def consumers(graph: Graph, tensor: str) -> Iterator[Reader]:
    """The node inputs that compute with the values of a tensor, nearest first, each once: read directly, through pairs,
    or through data-movement operators."""
    pending, seen = deque([tensor]), set[str]()
    while pending:
        name = pending.popleft()
        if name in seen:
            continue
        seen.add(name)
        for reader in graph.readers(name):
            move = None if reader.index < 0 else move_at(graph, reader)
            if move is not None:
                pending.extend(move[1])
            elif is_pair(reader.node) and reader.index == 0:
                pending.append(key(reader.node))
            else:
                yield reader
