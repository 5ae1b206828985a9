"""Convolution blocks and residual Adds: what must stay together, and which operand of an Add has the pair.

Sources: NVIDIA's TensorFlow quantization toolkit ("exactly one Conv input stays bare") and Model Optimizer, which
leaves the branch with the longer path to the common ancestor unquantized; links in docs/tensorrt.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from ..operators import BINARY, PAIRS, SUMS, UNARY, WEIGHTED
from .elementwise import activation, inner_inputs
from .graph import Graph, key
from .normalizations import normalizations
from .pair import Pair, pairs
from .sites import sites

INSIDE = UNARY | BINARY | PAIRS
"""Operators that an activation written as several nodes may contain, and the pairs between them."""

MEMBERS = WEIGHTED | SUMS | UNARY | BINARY | {"BatchNormalization"}
"""Operators of the nodes that a block consists of."""


@dataclass(frozen=True, eq=False)
class Side:
    """One operand of a residual Add.

    Attributes:
        index: which input of the Add.
        tensor: the tensor that the Add reads.
        site: the same, seen through its pair.
        pair: the pair through which the Add reads it; None if it is unquantized.
        fusible: it is the result of an INT8 convolution block that nothing else reads.
    """

    index: int
    tensor: str
    site: str
    pair: Pair | None
    fusible: bool


@dataclass(frozen=True, eq=False)
class Residual:
    """An Add of two data tensors of one shape: a skip connection.

    `conv` is the operand that fuses with the Add and should stay unquantized: the only convolution block, or of two the
    one with the longer path. `skips` are the operands that should have a pair.
    """

    add: gs.Node
    conv: Side | None
    skips: tuple[Side, ...]


def residual(graph: Graph, add: gs.Node) -> Residual | None:
    """The Add as a residual; None if an operand is constant or broadcast, both are functions of one tensor, or the Add
    is part of a normalization."""
    if len(add.inputs) != 2 or add.inputs[0].name == add.inputs[1].name or activation(graph, add) is not None:
        return None
    names = [t.name for t in add.inputs]
    if normalizations(graph).computes(add):
        return None
    if any(graph.is_constant(n) for n in names):
        return None
    first, second = (graph.shape(n) for n in names)
    if first is not None and second is not None:
        known = (a == b for a, b in zip(first[1:], second[1:], strict=False) if None not in (a, b))
        if len(first) != len(second) or not all(known):
            return None
    table = pairs(graph)
    sides = [Side(i, n, table.root(n), table.made(n), _fusible(graph, add, table.root(n))) for i, n in enumerate(names)]
    fusible = [s for s in sides if s.fusible]
    conv = max(fusible, key=lambda s: (graph.depth.get(s.site, 0), -s.index), default=None)
    return Residual(add, conv, tuple(s for s in sides if s is not conv))


def _fusible(graph: Graph, add: gs.Node, site: str) -> bool:
    alone = all(u.reader.node is add for u in sites(graph).uses(site)) and site not in graph.outputs
    return alone and block(graph, site) is not None


def residuals(graph: Graph) -> tuple[Residual, ...]:
    """All residual Adds, in file order; found once."""
    return graph.once(_residuals)


def _residuals(graph: Graph) -> tuple[Residual, ...]:
    return tuple(r for add in graph.nodes(*SUMS) if (r := residual(graph, add)) is not None)


def skips_convolution(graph: Graph, site: str) -> bool:
    """Whether the site is both the paired skip of a residual Add and the paired input of a weighted operator."""
    paired = [u.reader.node for u in sites(graph).uses(site) if u.pair is not None]
    skipped = {s.site for node in paired if node.op in SUMS and (r := residual(graph, node)) for s in r.skips}
    return site in skipped and any(node.op in WEIGHTED for node in paired)


def opens_block(graph: Graph, node: gs.Node) -> bool:
    """Whether an activation downstream fuses with the node: a convolution, its normalization, its residual Add."""
    if node.op in WEIGHTED | {"BatchNormalization"}:
        return True
    found = residual(graph, node) if node.op in SUMS else None
    return found is not None and found.conv is not None


def block(graph: Graph, tensor: str) -> gs.Node | None:
    """The INT8 convolution (or Gemm) whose block of BatchNormalization and activation ends in this tensor.

    None if there is no such block, if the convolution's own input is not quantized, or if a node outside the block
    reads a tensor inside it.
    """
    table = pairs(graph)
    for _ in range(6):
        node = graph.producer(tensor)
        if node is None:
            return None
        if node.op in WEIGHTED:
            return node if table.made(node.inputs[0].name) else None
        inner = node.inputs[0].name if node.op == "BatchNormalization" else activation(graph, node)
        if inner is None or not _inside(graph, table.root(inner), key(node)):
            return None
        tensor = table.root(inner)
    return None


def owners(graph: Graph) -> dict[str, str]:
    """The weighted node of the block that each node belongs to: both by key.

    A block is a weighted node and what fuses with it: BatchNormalization, activation (also one of several nodes), the
    residual Add that adds to its result, and the activation after that. Nodes of no block are left out. Found once.
    """
    return graph.once(_owners)


def _owners(graph: Graph) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in graph.nodes():
        core = _core(graph, key(node)) if node.op in MEMBERS else None
        if core is None:
            continue
        found[key(node)] = key(core)
        for reader in inner_inputs(graph, node) if core is not node else ():
            found[pairs(graph).root(reader.node.inputs[reader.index].name)] = key(core)
    return found


def _core(graph: Graph, end: str) -> gs.Node | None:
    """The weighted node whose block contains the node, given by key, that ends a part of it; None if there is none.
    Each part is seen once: a chain of Adds whose operands are functions of one tensor is as long as the graph."""
    known, passed = graph.known(_core), list[str]()
    while end not in known:
        passed.append(end)
        core, before = _step(graph, graph.node(end))
        if before is None:
            known[end] = core
        else:
            end = key(before)
    known |= dict.fromkeys(passed, known[end])
    return known[end]


def _step(graph: Graph, node: gs.Node) -> tuple[gs.Node | None, gs.Node | None]:
    """The weighted node of a block, or the Add before the activation that a node ends, which has the same."""
    if node.op in WEIGHTED:
        return node, None
    if node.op in SUMS and (found := residual(graph, node)) is not None:
        return (None if found.conv is None else block(graph, found.conv.site)), None
    inner = node.inputs[0].name if node.op == "BatchNormalization" else activation(graph, node)
    if inner is None or not _inside(graph, pairs(graph).root(inner), key(node)):
        return None, None
    source = graph.producer(pairs(graph).root(inner))
    if source is None or source.op not in SUMS:
        return block(graph, key(node)), None
    return None, source


def _inside(graph: Graph, tensor: str, end: str) -> bool:
    """Whether all readers of the tensor belong to the element-wise function that ends in `end`."""
    if tensor in graph.outputs:
        return False
    depth, deepest = graph.depth, graph.depth.get(end, 0)
    pending, seen = [iter(graph.readers(tensor))], {tensor}
    while pending:  # depth first: the first path that leaves the function is the answer
        reader = next(pending[-1], None)
        if reader is None:
            pending.pop()
            continue
        made = key(reader.node)
        if made == end or made in seen:
            continue
        if reader.node.op not in INSIDE or depth.get(made, 0) > deepest:
            return False
        if made in graph.outputs:
            return False
        seen.add(made)
        pending.append(iter(graph.readers(made)))
    return True
