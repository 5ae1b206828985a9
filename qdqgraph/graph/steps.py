"""Activations that are written as several nodes, and the pairs between these nodes.

Source: measured on TensorRT-RTX 1.7.1: such an activation between two INT8 convolutions has the same kernels and bytes
with and without pairs inside (docs/tensorrt.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from ..operators import LINEAR, RANGES, UNBOUNDED
from .blocks import opens_block, owners
from .elementwise import activation, inner_inputs, pointwise
from .graph import Graph, input_name, key
from .normalizations import normalizations
from .pair import Pair, is_pair, pairs
from .sites import sites


def splits_activation(graph: Graph, pair: Pair) -> bool:
    """Whether a pair is between two nodes of one activation that is written as several nodes (HardSwish, HardSigmoid,
    GELU, Softplus), after the first of them, in a convolution block. Nothing else may read it.

    False for a pair that QDQ304 reports, see `gates_outside_blocks`, and where a constant for each channel follows the
    activation: that is a layer of its own.
    """
    uses = sites(graph).uses(pair.site)
    owner, nodes = owners(graph).get(pair.site), [u.reader.node for u in uses]
    if owner is None or not uses or any(u.pair is not pair for u in uses) or pair.site in graph.outputs:
        return False
    if any(owners(graph).get(key(n)) != owner or activation(graph, n) is None for n in nodes):
        return False  # a reader outside the block, or its residual Add
    if any(normalizations(graph).computes(n) for n in nodes):
        return False
    if any(u.reader.key in gates_outside_blocks(graph) for u in uses):
        return False
    if any(_acts(graph, n) for n in _upstream(graph, pair)):
        return all(_acts(graph, n) or _by_a_number(graph, n) for n in nodes)
    return any(_acts(graph, n) for n in _downstream(graph, nodes))


def limits_activation(graph: Graph, pair: Pair) -> bool:
    """Whether a pair inside an activation may be its upper limit, as in a HardSigmoid whose Clip an exporter left out:
    the pair follows a Relu, and no other node limits the result."""
    if not splits_activation(graph, pair):
        return False
    above = _upstream(graph, pair)
    steps = [*above, *_downstream(graph, [u.reader.node for u in sites(graph).uses(pair.site)])]
    joined = any(pointwise(graph, node) is None for node in steps)
    return not joined and all(n.op in UNBOUNDED for n in steps) and any(_acts(graph, n) for n in above)


def gates_outside_blocks(graph: Graph) -> frozenset[tuple[str, int]]:
    """The inputs inside every activation x * f(x) with a bounded f (GELU, SiLU, HardSwish) that no convolution block
    opens, its constant factor included, as (node, input); found once."""
    return graph.once(_gates_outside_blocks)


def _gates_outside_blocks(graph: Graph) -> frozenset[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for product in graph.nodes("Mul"):
        source = activation(graph, product)
        if source is None:
            continue
        opener = graph.producer(source)
        while opener is not None and is_pair(opener):
            opener = graph.producer(opener.inputs[0].name)
        if opener is not None and opens_block(graph, opener):
            continue
        inner = inner_inputs(graph, product)
        makers = [graph.producer(pairs(graph).root(input_name(reader.node, reader.index))) for reader in inner]
        if any(maker is not None and (maker.op in RANGES or maker.op == "Clip") for maker in makers):
            found.update(reader.key for reader in inner)
            found.update(u.reader.key for u in sites(graph).uses(key(product)) if _by_a_number(graph, u.reader.node))
    return frozenset(found)


def _by_a_number(graph: Graph, node: gs.Node) -> bool:
    """Whether a node is linear in one tensor, and its other operand is one number for all channels."""
    if _acts(graph, node):
        return False
    data = pointwise(graph, node)
    return all(t.name == data or ((v := graph.value(t.name)) is not None and v.size == 1) for t in node.inputs)


def _acts(graph: Graph, node: gs.Node) -> bool:
    """Whether a node is more than a linear function of one tensor with constants."""
    source = pointwise(graph, node) if node.op in LINEAR else None
    return source is None or (node.op == "Div" and source != node.inputs[0].name)


def _upstream(graph: Graph, pair: Pair) -> list[gs.Node]:
    """The element-wise nodes from the pair up to what opens its block, of several operands their join."""
    found: list[gs.Node] = []
    node = graph.producer(pair.site)
    while node is not None and not opens_block(graph, node):
        found.append(node)
        source = activation(graph, node)
        node = None if source is None else graph.producer(pairs(graph).root(source))
    return found


def _downstream(graph: Graph, nodes: Sequence[gs.Node]) -> list[gs.Node]:
    """Element-wise nodes, and those after them, while one input alone reads each."""
    found: list[gs.Node] = []
    while nodes and all(activation(graph, node) is not None for node in nodes):
        found += nodes
        uses = sites(graph).uses(key(nodes[0])) if len(nodes) == 1 else ()
        nodes = [u.reader.node for u in uses] if len(uses) == 1 else []
    return found
